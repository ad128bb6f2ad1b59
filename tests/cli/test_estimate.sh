#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap sample` and `aftermap estimate` on a small event: a census gives the counts that SQL gives, a drawn sample gives
# intervals that hold them, and what is no random sample is refused with its reason. Makes its own event, model and map.
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to map'; exit 77; }
command -v jq >/dev/null && command -v ogr2ogr >/dev/null || { echo 'needs jq and gdal-bin'; exit 77; }

"$build/aftermap-scene" --seed 9 --size-px 900 --buildings 170 -o scene >/dev/null 2>&1 || { echo 'no scene'; exit 77; }
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage \
    --size-m 16 -o event -q >/dev/null
"$aftermap" train event --method supervised --steps 2 --batch 8 --cut 2 --labels-per-class 5 -o m.safetensors -q >/dev/null 2>&1
"$aftermap" assess event --model m.safetensors -o map --tta 1 -q >/dev/null

sql() { ogr2ogr -f CSV /vsistdout/ "$1" -dialect SQLite -sql "$2" 2>/dev/null | tail -n +2 | tr -d '"\r'; }
N=$(sql map/damage.gpkg 'SELECT count(*) FROM buildings')
said() { # FILTER WANT WHAT: a jq filter of out.txt
    local got
    got=$(jq -c "$1" out.txt)
    [ "$got" = "$2" ] || fail "$3: $1 is $got, not $2"
}
holds() { # FILTER WHAT: a jq condition on out.txt
    [ "$(jq "$1" out.txt)" = true ] || fail "$2: not $1: $(jq -c .whole.damaged out.txt)"
}
estimate() { "$aftermap" estimate map "$@" --json >out.txt 2>err.txt || fail "estimate $*: $(tail -n 2 err.txt)"; }

# The draw: columns, no repeats, no predictions, the same building at the same place whatever the size.
"$aftermap" sample map --n 60 --seed 4 -o s.csv -q || fail 'sample'
[ "$(head -n 1 s.csv | tr -d '\r')" = 'draw,bldg_id,fid,lon,lat,purpose,stratum,n_stratum,zone_id,grade' ] || fail "columns: $(head -n 1 s.csv)"
[ "$(tail -n +2 s.csv | cut -d, -f2 | sort -u | wc -l)" -eq 60 ] || fail 'a drawn building is drawn twice'
"$aftermap" sample map --n 30 --seed 4 -o s30.csv -q && cmp -s <(head -n 31 s.csv | cut -d, -f1-6) <(cut -d, -f1-6 s30.csv) ||
    fail 'a longer draw does not begin with the shorter one'
"$aftermap" sample event --n 30 --seed 4 -o e30.csv -q && cmp -s <(cut -d, -f1-3 e30.csv) <(cut -d, -f1-3 s30.csv) ||
    fail 'map and event are not drawn alike'
expect 2 'exists already' "$aftermap" sample map --n 30 -o s30.csv
expect 2 'can be drawn' "$aftermap" sample map --n 100000 -o never.csv
[ ! -e never.csv ] || fail 'a refused draw left a file'

# A census: totals are the counts, without width.
"$aftermap" sample map --n "$N" --seed 1 -o all.csv -q
for method in exact model-assisted; do
    estimate --truth event --sample all.csv --method $method
    want=$(sql scene/footprints.gpkg "SELECT count(*) FROM footprints WHERE damage IN ('major', 'destroyed')")
    said '[.whole.damaged | .estimate, .low, .high]' "[$want,$want,$want]" "census, $method"
    for class in none minor major destroyed; do
        want=$(sql scene/footprints.gpkg "SELECT count(*) FROM footprints WHERE damage = '$class'")
        said "[.whole.classes[] | select(.class == \"$class\") | .low, .high]" "[$want,$want]" "census of $class, $method"
    done
    said '[.whole.classes[].low] | add' "$N" "census, $method"
    # precision and recall of the map by SQL
    sql map/damage.gpkg 'SELECT bldg_id, dmg_level FROM buildings' | sort >called
    sql scene/footprints.gpkg "SELECT bldg_id, damage FROM footprints" | sort >true
    join -t, called true | awk -F, '{ c = $2 != "" && $2 >= 2; d = $3 == "major" || $3 == "destroyed"; if ($3 == "unknown" || $3 == "") next
        tp += c && d; fp += c && !d; fn += !c && d } END { printf "%.4f %.4f\n", tp / (tp + fp), tp / (tp + fn) }' >pr
    [ "$(jq -r '"\(.accuracy.precision.value) \(.accuracy.recall.value)"' out.txt | awk '{ printf "%.4f %.4f\n", $1, $2 }')" = "$(cat pr)" ] ||
        fail "precision and recall are $(jq -c .accuracy out.txt), by hand $(cat pr)"
done
truth=$(jq .whole.damaged.low out.txt)

# A sample of 60: by hand the exact interval of a simple random sample, the hypergeometric tails in awk.
estimate --truth event --sample s.csv --method exact
x=$(jq .whole.damaged.n_sampled out.txt)
awk -v N="$N" -v n=60 -v x="$x" 'function lc(a, b,  i, s) { s = 0; for (i = 1; i <= b; i++) s += log(a - b + i) - log(i); return s }
    function p(K, k) { return k > K || n - k > N - K ? 0 : exp(lc(K, k) + lc(N - K, n - k) - lc(N, n)) }
    BEGIN { low = -1
        for (K = x; K <= N - n + x; K++) { u = l = 0
            for (k = 0; k <= n; k++) { if (k >= x) u += p(K, k); if (k <= x) l += p(K, k) }
            if (low < 0 && u > 0.025) low = K
            if (l > 0.025) high = K }
        print "[" low "," high "]" }' >hand
said '[.whole.damaged | .low, .high]' "$(cat hand)" 'exact interval'
cp out.txt exact.json
estimate --truth event --sample s.csv
holds ".whole.damaged | .low <= $truth and $truth <= .high" 'model-assisted' # this seed; 19 of 20 hold
holds '.whole.damaged.low >= .whole.damaged.n_sampled' 'model-assisted'
holds '([.whole.classes[].estimate] | add) - .whole.n_buildings | fabs < 0.6' 'classes add up'
holds '.whole.classes | all(.low >= .n_sampled and .high > 0 and .low <= .estimate and .estimate <= .high)' 'classes'

# Grades in the sample's own table, partly graded in order, with a gap, by names and by numbers.
sql scene/footprints.gpkg 'SELECT bldg_id, damage FROM footprints' >grades
grade() { # FROM UPTO SKIP: fills the column grade of draws 1..UPTO but SKIP
    awk -F, -v OFS=, -v upto="$2" -v skip="$3" 'NR == FNR { g[$1] = $2; next } { sub(/\r$/, "") } FNR > 1 { $10 = $1 <= upto && $1 != skip ? g[$2] : "" } { print }' grades "$1"
}
grade s.csv 60 0 >graded.csv
estimate --truth graded.csv:grade --method exact
[ "$(jq -c .whole out.txt)" = "$(jq -c .whole exact.json)" ] || fail 'grades in the table and in the event differ'
grade s.csv 40 0 >part.csv
estimate --truth part.csv:grade
said '[.sample | .n_drawn, .n_graded]' '[60,40]' 'partly graded'
grade s.csv 40 7 >gap.csv
expect 3 'were skipped' "$aftermap" estimate map --truth gap.csv:grade
[ "$(wc -l <err.txt)" -eq 1 ] || fail "a refusal says more than one line: $(cat err.txt)"
sed 8d gap.csv >hole.csv # the row of draw 7 is not even there
expect 3 'first is draw 7\)' "$aftermap" estimate map --truth hole.csv:grade
grade s.csv 40 38 >hand.csv # somebody has it in hand
estimate --truth hand.csv:grade
said '.sample.n_graded' 39 'one in hand'
sed '3s/^2,/1,/' graded.csv >same.csv
expect 3 'another has' "$aftermap" estimate map --truth same.csv:grade
grade s.csv 9 0 >few.csv
expect 3 'too small' "$aftermap" estimate map --truth few.csv:grade
grade s.csv 0 0 >none.csv
expect 3 'none of the 60 drawn' "$aftermap" estimate map --truth none.csv:grade
sed '3s/,[a-z]*$/,ruined/' graded.csv >wrong.csv
expect 3 'is no grade' "$aftermap" estimate map --truth wrong.csv:grade
sed '2{h;G}' graded.csv >twice.csv
expect 3 'in the sample twice' "$aftermap" estimate map --truth twice.csv:grade
sed '2s/^1,[^,]*/1,nowhere/' graded.csv >foreign.csv
expect 3 'is not in map' "$aftermap" estimate map --truth foreign.csv:grade

# What is no random sample.
expect 3 'no random sample yet' "$aftermap" estimate map
expect 3 'do not say how' "$aftermap" estimate map --truth event
cut -d, -f2,10 graded.csv >bare.csv
expect 3 'does not say how' "$aftermap" estimate map --truth bare.csv:grade
estimate --truth bare.csv:grade --assume-random --method exact
[ "$(jq -c .whole out.txt)" = "$(jq -c .whole exact.json)" ] || fail 'a table answered for gives other totals'
"$aftermap" label next event --model m.safetensors --known --purpose train --n 60 2>/dev/null >asked.csv
expect 3 "purpose 'validate'" "$aftermap" estimate map --truth event --sample asked.csv
sql map/damage.gpkg 'SELECT bldg_id, 2 AS grade FROM buildings ORDER BY p_dmg DESC LIMIT 60' | sed '1i bldg_id,grade' >picked.csv
expect 3 'are no random sample' "$aftermap" estimate map --truth picked.csv:grade --assume-random
# Strata: each has its share and 10 at least; another map's strata are refused.
"$aftermap" sample map --n 70 --strata dmg_class --seed 2 -o st.gpkg -q || fail 'stratified sample'
estimate --truth event --sample st.gpkg
said '[.sample.design, .sample.stratified_by]' '["stratified","dmg_class"]' 'strata'
sql st.gpkg 'SELECT count(*) FROM sample GROUP BY stratum ORDER BY 1' | head -n 1 >least
[ "$(cat least)" -ge 10 ] || [ "$(sql map/damage.gpkg 'SELECT count(*) FROM buildings GROUP BY dmg_class ORDER BY 1' | head -n 1)" -lt 10 ] ||
    fail "a stratum has $(cat least) drawn"
# by hand: sum over strata of N_h x_h / n_h
ogr2ogr -f CSV st.csv st.gpkg 2>/dev/null
awk -F, 'NR == FNR { d[$1] = $2 == "major" || $2 == "destroyed"; next }
    FNR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next } { gsub(/"/, ""); s = $c["stratum"]; n[s]++; N[s] = $c["n_stratum"]; x[s] += d[$c["bldg_id"]] }
    END { for (s in n) t += N[s] * x[s] / n[s]; printf "%.1f\n", t }' grades <(tr -d '\r' <st.csv) >hand
estimate --truth event --sample st.gpkg --method exact # without groups within strata
awk -v a="$(jq .whole.damaged.estimate out.txt)" -v b="$(cat hand)" 'BEGIN { exit a - b > 0.11 || b - a > 0.11 }' ||
    fail "stratified total $(jq .whole.damaged.estimate out.txt), by hand $(cat hand)"
"$aftermap" assess event --model m.safetensors -o map2 --tta 1 --operating-point 0.9 -q >/dev/null 2>&1 || fail 'second map'
cmp -s <(cut -d, -f1,2 map/damage.csv) <(cut -d, -f1,2 map2/damage.csv) ||
    expect 3 'strata of the sample' "$aftermap" estimate map2 --truth event --sample st.gpkg

# Zones: counts as SQL has them, borders once, too few graded gives a reason, a field that is not there is named.
read -r west mid east south north < <(sql map/damage.gpkg 'SELECT MbrMinX(e), (MbrMinX(e) + MbrMaxX(e)) / 2, MbrMaxX(e), MbrMinY(e), MbrMaxY(e) FROM (SELECT Extent(geom) AS e FROM buildings)' | tr ',' ' ')
box() { echo "[[[$1,$south],[$2,$south],[$2,$north],[$1,$north],[$1,$south]]]"; }
zone() { echo "{\"type\":\"Feature\",\"properties\":{\"pcode\":\"$1\",\"name\":\"$2\"},\"geometry\":{\"type\":\"Polygon\",\"coordinates\":$3}}"; }
echo "{\"type\":\"FeatureCollection\",\"features\":[$(zone W West "$(box "$west" "$mid")"),$(zone E East "$(box "$mid" "$east")")]}" >zones.geojson
estimate --truth event --sample all.csv --zones zones.geojson --zone-id pcode --zone-name name
for z in W E; do
    side=$([ $z = W ] && echo "<= $mid" || echo "> $mid")
    sql map/damage.gpkg "SELECT bldg_id FROM buildings WHERE ST_X(ST_PointOnSurface(geom)) $side" | sort >inside
    n=$(join -t, inside true | wc -l)
    d=$(join -t, inside true | grep -cE ',(major|destroyed)$' || true)
    said ".zones[] | select(.zone_id == \"$z\") | [.n_buildings, .damaged.low, .damaged.high]" "[$n,$d,$d]" "zone $z"
done
said '[.zones[].n_buildings] | add' "$N" 'zones'
# in another coordinate system the same
ogr2ogr -f GPKG -t_srs EPSG:3857 zones.gpkg zones.geojson 2>/dev/null
cp out.txt lonlat.json
estimate --truth event --sample all.csv --zones zones.gpkg --zone-id pcode
cmp -s <(jq '[.zones[] | .n_buildings, .damaged.low]' lonlat.json) <(jq '[.zones[] | .n_buildings, .damaged.low]' out.txt) ||
    fail 'zones in another coordinate system differ'
grade s.csv 14 0 >small.csv
estimate --truth small.csv:grade --zones zones.geojson --zone-id pcode
holds '.zones | any(.refused != null and .damaged == null)' 'a zone with too few graded buildings'
expect 3 'fields are: pcode, name' "$aftermap" estimate map --truth event --sample all.csv --zones zones.geojson --zone-id admin
expect 3 'no polygon|polygons' "$aftermap" estimate map --truth event --sample all.csv --zones st.gpkg --zone-id stratum
expect 2 'zone-id' "$aftermap" estimate map --truth event --sample all.csv --zones zones.geojson
# strata by zone
"$aftermap" sample map --n 40 --strata zone --zones zones.geojson --zone-id pcode -o sz.csv -q || fail 'strata by zone'
expect 2 'need the zones' "$aftermap" estimate map --truth event --sample sz.csv
estimate --truth event --sample sz.csv --zones zones.geojson --zone-id pcode --method exact
said '[.zones[].n_sampled] | add' 40 'strata by zone'

# Sizes.
"$aftermap" estimate map --half-width 10% --json >out.txt 2>/dev/null || fail 'sizes'
holds '.sample_size | .n_exact > 20 and .planned_share >= 0.1 and .n_exact <= .n_exact_worst' 'sizes'
n=$(jq .sample_size.n_exact out.txt)
"$aftermap" sample map --half-width 10% -o w.csv -q && [ "$(wc -l <w.csv)" -eq $((n + 1)) ] || fail 'a draw for a wanted width'
expect 2 'half-width' "$aftermap" estimate map --half-width 80%
expect 2 'event without predictions' "$aftermap" estimate event --truth event --sample s.csv
"$aftermap" estimate event --truth event --sample s.csv --method exact --json >out.txt 2>/dev/null || fail 'an event without a map'
[ "$(jq -c '.whole | .damaged, .classes' out.txt)" = "$(jq -c '.whole | .damaged, .classes' exact.json)" ] || fail 'map and event give other exact totals'
"$aftermap" estimate map --truth event --sample s.csv >out.txt 2>/dev/null && grep -q 'damaged (level 2 or worse)' out.txt || fail 'the table for people'
finish
