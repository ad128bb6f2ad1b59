#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `aftermap report`: one self-contained page in four languages, whose figures are those of `aftermap estimate`, that runs
# nothing and loads nothing, and in which text of files and users stays text. Makes its own event, model and map.
source "$(dirname "$0")/lib.sh"
[ -x "$build/aftermap-scene" ] || { echo 'no aftermap-scene: nothing to map'; exit 77; }
command -v jq >/dev/null && command -v python3 >/dev/null || { echo 'needs jq and python3'; exit 77; }

make_scene scene || { echo 'the scene maker does not run'; exit 77; }
"$aftermap" tile --pre scene/pre.tif --post scene/post.tif --footprints scene/footprints.gpkg --label-field damage \
    --size-m 16 -o event -q >/dev/null
"$aftermap" train event --method supervised --steps 2 --batch 8 --cut 2 --labels-per-class 5 -o m.safetensors -q >/dev/null 2>&1
"$aftermap" assess event --model m.safetensors -o map --tta 1 -q >/dev/null
"$aftermap" sample map --n 50 --seed 3 -o s.csv -q
read -r west east south north < <(jq -r '.event.bbox | "\(.[0]) \(.[2]) \(.[1]) \(.[3])"' map/run.json)
echo "{\"type\":\"FeatureCollection\",\"features\":[{\"type\":\"Feature\",\"properties\":{\"pcode\":\"Z1\",\"name\":\"<img src=x onerror=alert(1)>\"},
\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[[$west,$south],[$east,$south],[$east,$north],[$west,$north],[$west,$south]]]}}]}" >zones.geojson
zones=(--zones zones.geojson --zone-id pcode --zone-name name)
sampled=(--truth event --sample s.csv)
"$aftermap" estimate map "${sampled[@]}" "${zones[@]}" --json >estimate.json 2>/dev/null || fail 'estimate'

cat >check.py <<'PY'
import base64, html.parser, json, re, sys
path, lang, estimate = sys.argv[1], sys.argv[2], json.load(open('estimate.json'))
text = open(path, encoding='utf-8').read()
VOID = {'meta', 'img', 'line', 'rect', 'br'}
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.words, self.images, self.lang, self.dir = [], [], [], [], None, None
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.tags.append(tag)
        assert not any(k.startswith('on') for k in a), attrs
        for k in ('src', 'href', 'action'):
            if k in a:
                assert a[k].startswith('data:image/jpeg;base64,'), a[k][:60]
        if tag == 'html':
            self.lang, self.dir = a['lang'], a['dir']
        if tag == 'img':
            assert a['alt']
            self.images.append(a)
        if tag not in VOID:
            self.stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.stack)
        if tag not in ('bdi', 'span', 'code'):
            self.words.append(' ')
    def handle_data(self, data):
        if 'style' not in self.stack:
            self.words.append(data)
p = Page()
p.feed(text)
assert p.stack == [], p.stack
assert 'script' not in p.tags and 'iframe' not in p.tags and 'link' not in p.tags
assert 'http:' not in text and 'https:' not in text and 'url(' not in text and '@import' not in text
assert p.lang == lang and p.dir == ('rtl' if lang == 'ar' else 'ltr')
said = ' '.join(''.join(p.words).split())
flat = said.replace('\u202f', '').replace('\u2069', '').replace('\u2068', '')
w = estimate['whole']
for n in (round(w['damaged']['estimate']), w['damaged']['low'], w['damaged']['high'], w['n_buildings'], estimate['sample']['n_graded']):
    assert re.search(r'(?<![\d.,])%d(?![\d])' % n, flat.replace(',', '')), n
for c in w['classes']:
    assert re.search(r'(?<!\d)%d(?!\d)' % c['high'], flat), c
assert '<img src=x onerror=alert(1)>' in said and '"Fin" & <Co>' in said and "O'Neil" in said
assert estimate['map']['model'] in said and estimate['map']['run_id'] in said and 'aftermap ' + estimate['version'] in said
assert '{' not in said and '}' not in said, 'a text was not filled in'
assert '/tmp' not in said and 'post.tif' in said, 'a folder of this machine is named'
assert len(p.images) == 1 and int(p.images[0]['width']) <= 400 and int(p.images[0]['height']) <= 400
jpeg = base64.b64decode(p.images[0]['src'].split(',')[1], validate=True)
assert jpeg[:3] == b'\xff\xd8\xff' and len(text) < 400000
open('map.jpg', 'wb').write(jpeg)
words = {'en': 'Known limits', 'fr': 'Limites connues', 'es': 'Límites conocidos', 'ar': 'حدود معروفة'}
assert words[lang] in said
for other in words.values():
    assert other == words[lang] or other not in said, other
print(len(p.tags))
PY
shape=
for lang in en fr es ar; do
    "$aftermap" report map "${sampled[@]}" "${zones[@]}" --lang $lang --title '"Fin" & <Co>' --reviewed-by "O'Neil" --picture-px 400 \
        -o $lang.html -q || fail "report in $lang"
    got=$(python3 check.py $lang.html $lang) || fail "the report in $lang"
    [ -z "$shape" ] || [ "$got" = "$shape" ] || fail "the report in $lang has $got elements, in English $shape: a text is missing"
    shape=$got
done
# the picture is not blank: the post image and the buildings are in it
if command -v gdalinfo >/dev/null; then
    gdalinfo -stats map.jpg | grep STATISTICS_STDDEV | head -n 1 | awk -F= '{ exit $2 < 10 }' || fail 'the map is blank'
fi
grep -q 'size:A4' en.html || fail 'not A4'
"$aftermap" report map "${sampled[@]}" --paper letter -o letter.html -q && grep -q 'size:letter' letter.html || fail 'not letter'

"$aftermap" report map "${sampled[@]}" "${zones[@]}" --json -q >report.json || fail 'report --json'
[ "$(jq -c '.estimate | .whole, .zones, .accuracy' report.json)" = "$(jq -c '.whole, .zones, .accuracy' estimate.json)" ] ||
    fail 'report and estimate differ'
[ "$(jq -r '.files[] | select(.name == "damage.tif") | .sha256' report.json)" = "$(sha256sum <map/damage.tif | cut -d' ' -f1)" ] ||
    fail 'the digest of damage.tif is not its own'
[ "$(jq -r '.imagery.post[0] | "\(.file) \(.sha256)"' report.json)" = "post.tif $(sha256sum <scene/post.tif | cut -d' ' -f1)" ] || fail 'imagery'
grep -q "$scratch" report.json && fail 'report.json names a folder of this machine'

expect 2 'exists already' "$aftermap" report map "${sampled[@]}" -o en.html
expect 2 'lang takes' "$aftermap" report map "${sampled[@]}" --lang de -o never.html
expect 2 'UTF-8' "$aftermap" report map "${sampled[@]}" --title $'\xff' -o never.html
expect 3 'do not say how' "$aftermap" report map --truth event -o never.html
[ ! -e never.html ] || fail 'a refused report left a file'
# the image is gone: the report says so and still has its map
mv scene/post.tif scene/gone.tif
"$aftermap" report map "${sampled[@]}" -o gone.html -q && grep -q 'could not be read any more' gone.html || fail 'without the image'
finish
