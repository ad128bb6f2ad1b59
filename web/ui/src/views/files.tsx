// SPDX-License-Identifier: Apache-2.0
// Choosing a file: from the data root, folder by folder, or by uploading one (button or drag and drop). What was chosen is
// shown as the server understands it, at once, with its problem in words if it cannot be used.
import { useEffect, useRef, useState } from "preact/hooks";
import { fileInfo, files, thumbnail, type FileEntry, type RasterInfo, type VectorInfo } from "../api.js";
import { bytes, date, number, t, two } from "../lib/i18n.js";
import { lowBandwidth } from "../lib/prefs.js";
import { upload } from "../lib/upload.js";
import { Failure, Meter, Notice, useLoaded } from "../lib/ui.js";

export type Info = RasterInfo | VectorInfo;

function Browser({ kind, choose }: { kind: "raster" | "vector"; choose: (ref: string) => void }) {
  const [path, setPath] = useState("");
  const { value, error } = useLoaded(() => files(path), [path]);
  const parts = path ? path.split("/") : [];
  const shown = (value?.entries ?? []).filter((f) => f.kind === "dir" || f.kind === kind);
  const button = (f: FileEntry) => (
    <button type="button" class="row" onClick={() => (f.kind === "dir" ? setPath(path ? `${path}/${f.name}` : f.name) : choose(f.ref))}>
      <span aria-hidden="true">{f.kind === "dir" ? "▸" : "+"}</span> <bdi>{f.name}</bdi>
      <span class="count">{f.bytes === null || f.kind === "dir" ? "" : bytes(f.bytes)}</span>
    </button>
  );
  return (
    <div class="browser">
      <p class="crumbs">
        <button type="button" class="link" onClick={() => setPath("")}>
          {t("dataFolder")}
        </button>
        {parts.map((p, i) => (
          <>
            {" / "}
            <button type="button" class="link" onClick={() => setPath(parts.slice(0, i + 1).join("/"))}>
              <bdi>{p}</bdi>
            </button>
          </>
        ))}
      </p>
      <Failure error={error} />
      <ul class="plain rows">
        {shown.map((f) => (
          <li key={f.ref}>{button(f)}</li>
        ))}
      </ul>
      {value && shown.length === 0 && <p class="note">{t(kind === "raster" ? "noRasters" : "noVectors")}</p>}
    </div>
  );
}

function Uploader({ choose, label }: { choose: (ref: string) => void; label: string }) {
  const [state, setState] = useState<{ name: string; share: number } | null>(null);
  const [error, setError] = useState<unknown>(null);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => () => abort.current?.abort(), []);
  const send = async (list: FileList | null): Promise<void> => {
    setError(null);
    for (const file of Array.from(list ?? [])) {
      abort.current = new AbortController();
      try {
        choose(await upload(file, (sent) => setState({ name: file.name, share: file.size ? sent / file.size : 1 }), abort.current.signal));
      } catch (e) {
        if (!abort.current.signal.aborted) setError(e);
      }
      setState(null);
    }
  };
  return (
    <div
      class="drop"
      onDragOver={(e) => e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault();
        void send(e.dataTransfer?.files ?? null);
      }}
    >
      {state ? (
        <div role="status">
          <bdi>{state.name}</bdi>
          <Meter value={state.share} label={t("uploading", state.name)} />
          <button type="button" onClick={() => abort.current?.abort()}>
            {t("cancel")}
          </button>
        </div>
      ) : (
        <label>
          {t("dropHere")} <input type="file" aria-label={`${label}: ${t("upload")}`} onChange={(e) => void send(e.currentTarget.files)} />
        </label>
      )}
      <Failure error={error} />
    </div>
  );
}

function Facts({ info }: { info: Info }) {
  const rows: [string, string][] =
    info.kind === "raster"
      ? [
          [t("crs"), info.crs ?? t("notGiven")],
          [t("gsd"), info.gsd_m ? t("metres", two(info.gsd_m)) : t("notGiven")],
          [t("size"), `${number(info.width)} × ${number(info.height)}`],
          [t("bands"), t("bandsDepth", number(info.bands), number(info.bit_depth))],
          [t("date"), info.date ? date(info.date) : t("unknownDate")],
          [t("nodata"), info.nodata === null ? t("notGiven") : number(info.nodata)],
        ]
      : [
          [t("crs"), info.crs ?? t("notGiven")],
          ...info.layers.map((l): [string, string] => [l.name, `${number(l.n)} × ${l.geometry}`]),
        ];
  return (
    <dl class="facts">
      {rows.map(([k, v]) => (
        <>
          <dt>
            <bdi>{k}</bdi>
          </dt>
          <dd>
            <bdi>{v}</bdi>
          </dd>
        </>
      ))}
    </dl>
  );
}

function Chosen({ value, info, error, remove }: { value: string; info: Info | null; error: unknown; remove: () => void }) {
  const isRaster = info?.kind === "raster";
  return (
    <li class="chosen">
      {isRaster && !info.problem && <img src={thumbnail(value, lowBandwidth.value ? 96 : 192, "")} alt={t("thumbnailOf", value)} />}
      <div>
        <strong>
          <bdi>{value}</bdi>
        </strong>{" "}
        <button type="button" onClick={remove}>
          {t("remove")}
        </button>
        <Failure error={error} />
        {info?.problem && <Notice kind="fail">{info.problem}</Notice>}
        {info && <Facts info={info} />}
      </div>
    </li>
  );
}

/** One or several files of a kind; `told` hears what the server says of each (null while it reads). */
export function FilesField(props: { label: string; kind: "raster" | "vector"; several: boolean; refs: string[]; change: (refs: string[]) => void; told: (ref: string, info: Info | null) => void }) {
  const [infos, setInfos] = useState<Record<string, Info>>({});
  const [errors, setErrors] = useState<Record<string, unknown>>({});
  const choose = (ref: string): void => {
    if (props.refs.includes(ref)) return;
    props.change(props.several ? [...props.refs, ref] : [ref]);
    fileInfo(ref).then(
      (info) => {
        setInfos((x) => ({ ...x, [ref]: info }));
        props.told(ref, info);
      },
      (e: unknown) => setErrors((x) => ({ ...x, [ref]: e })),
    );
  };
  return (
    <fieldset>
      <legend>{props.label}</legend>
      <ul class="plain" aria-live="polite">
        {props.refs.map((ref) => (
          <Chosen
            key={ref}
            value={ref}
            info={infos[ref] ?? null}
            error={errors[ref]}
            remove={() => {
              props.change(props.refs.filter((r) => r !== ref));
              props.told(ref, null);
            }}
          />
        ))}
      </ul>
      {(props.several || props.refs.length === 0) && (
        <div class="pick">
          <Browser kind={props.kind} choose={choose} />
          <Uploader choose={choose} label={props.label} />
        </div>
      )}
    </fieldset>
  );
}
