/* SPDX-License-Identifier: Apache-2.0
 * routes_table.c - the one list of what the server answers (routes.h): a new operation is a handler and a row. */
#include "web/routes.h"

#include <string.h>

#define PARAM(var, text, about, shape) static const struct route_param var = {text, about, shape}

PARAM(limit_param, "limit", "Features on one page.",
      "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000,\"default\":1000}");
PARAM(bbox_param, "bbox",
      "minx,miny,maxx,maxy in bbox-crs, degrees without it (or six numbers with heights, which are ignored); "
      "minx "
      "above maxx crosses the 180th meridian.",
      "{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":4,\"maxItems\":6}");
PARAM(bbox_crs_param, "bbox-crs", "Coordinate system of bbox, in the order of axes that its URI demands.",
      "{\"type\":\"string\",\"format\":\"uri\"}");
PARAM(crs_param, "crs", "Coordinate system of the answer, in the order of axes that its URI demands.",
      "{\"type\":\"string\",\"format\":\"uri\"}");
PARAM(datetime_param, "datetime",
      "RFC 3339 instant or interval with .. for an open end, compared with `updated`; features without it "
      "always match.",
      "{\"type\":\"string\"}");
PARAM(after_param, "after", "Position to go on from; only ever taken from a next link.",
      "{\"type\":\"string\"}");
PARAM(
    sortby_param, "sortby",
    "Order of the features: a column, with - before it the largest first; ties by number.",
    "{\"type\":\"string\",\"enum\":[\"p_dmg\",\"+p_dmg\",\"-p_dmg\",\"entropy\",\"+entropy\",\"-entropy\"]}");
PARAM(bldg_id_param, "bldg_id", "Only the building with this id.", "{\"type\":\"string\"}");
PARAM(dmg_class_param, "dmg_class", "Only buildings of this damage class.", "{\"type\":\"string\"}");
PARAM(dmg_level_param, "dmg_level", "Only buildings of this damage level (0 to 3, -1 unknown).",
      "{\"type\":\"integer\"}");
PARAM(status_param, "status", "Only buildings with this status.", "{\"type\":\"string\"}");
PARAM(reason_param, "reason", "Only buildings unknown for this reason.", "{\"type\":\"string\"}");
PARAM(zone_id_param, "zone_id", "Only buildings of this zone.", "{\"type\":\"string\"}");
PARAM(lbl_src_param, "lbl_src", "Only buildings whose class comes from here.", "{\"type\":\"string\"}");
PARAM(min_p_param, "min_p", "Only buildings whose p_dmg is at least this.",
      "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}");
PARAM(max_p_param, "max_p", "Only buildings whose p_dmg is at most this.",
      "{\"type\":\"number\",\"minimum\":0,\"maximum\":1}");
PARAM(rev_param, "rev", "Any text; its presence lets the tile be cached for good.", "{\"type\":\"string\"}");

PARAM(n_param, "n", "How many.", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":200,\"default\":20}");
PARAM(list_param, "list", "Which list.",
      "{\"type\":\"string\",\"enum\":[\"uncertain\",\"large\",\"disagreement\",\"contradiction\","
      "\"alignment\"]}");
PARAM(mode_param, "mode",
      "Buildings that teach, ones drawn blindly to judge the map, or both (one in five is blind).",
      "{\"type\":\"string\",\"enum\":[\"both\",\"train\",\"validate\"],\"default\":\"both\"}");
PARAM(strategy_param, "strategy",
      "How buildings that teach are chosen; auto: doubtful ones where there is a map, else spread.",
      "{\"type\":\"string\",\"enum\":[\"auto\",\"random\",\"margin\",\"diff2\",\"entropy\",\"spread\"]}");
PARAM(user_param, "user", "Who asks: what others were given lately comes last. A token's name counts more.",
      "{\"type\":\"string\"}");
PARAM(purpose_param, "purpose", "Only labels for this.",
      "{\"type\":\"string\",\"enum\":[\"train\",\"validate\"]}");
PARAM(by_param, "by", "Only labels of this person.", "{\"type\":\"string\"}");
PARAM(overwrite_param, "overwrite", "Replace labels of other people, too.",
      "{\"type\":\"boolean\",\"default\":false}");
PARAM(history_after_param, "after", "Only rows after this one.", "{\"type\":\"integer\",\"minimum\":0}");
PARAM(history_limit_param, "limit", "Rows at most.",
      "{\"type\":\"integer\",\"minimum\":1,\"maximum\":10000}");
PARAM(px_param, "px", "Side of the picture in pixels.",
      "{\"type\":\"integer\",\"minimum\":16,\"maximum\":1024}");
PARAM(size_m_param, "size_m", "Side of what is shown in metres, at most the chip's own.",
      "{\"type\":\"number\",\"minimum\":1}");
PARAM(shift_param, "shift", "auto: moved as alignment found; none: as the image has it.",
      "{\"type\":\"string\",\"enum\":[\"auto\",\"none\"],\"default\":\"auto\"}");
PARAM(path_param, "path", "Folder below the data root; nothing: the root.", "{\"type\":\"string\"}");
PARAM(ref_param, "ref", "Id of an upload, or a path below the data root.", "{\"type\":\"string\"}");
PARAM(bands_param, "bands", "One or three band numbers.",
      "{\"type\":\"string\",\"pattern\":\"^[0-9]+(,[0-9]+,[0-9]+)?$\"}");
PARAM(assessment_param, "assessment", "Only jobs of this assessment.", "{\"type\":\"string\"}");
PARAM(job_status_param, "status", "Only jobs in this state.",
      "{\"type\":\"string\",\"enum\":[\"accepted\",\"running\",\"successful\",\"failed\",\"dismissed\"]}");
PARAM(method_param, "method", "How totals are estimated.",
      "{\"type\":\"string\",\"enum\":[\"exact\",\"model-assisted\"],\"default\":\"model-assisted\"}");
PARAM(cut_param, "cut", "Damaged means this level or worse.",
      "{\"type\":\"integer\",\"minimum\":1,\"maximum\":3}");
PARAM(zones_param, "zones", "Also for each of the assessment's zones, where it has any.",
      "{\"type\":\"boolean\",\"default\":true}");
PARAM(half_width_param, "half_width",
      "Also say how large a sample this half-width of the interval needs: buildings, or a share below 1.",
      "{\"type\":\"number\"}");
PARAM(lang_param, "lang", "Language.",
      "{\"type\":\"string\",\"enum\":[\"en\",\"fr\",\"es\",\"ar\"],\"default\":\"en\"}");
PARAM(paper_param, "paper", "Paper.",
      "{\"type\":\"string\",\"enum\":[\"a4\",\"letter\"],\"default\":\"a4\"}");
PARAM(title_param, "title", "Title of the report.", "{\"type\":\"string\"}");
PARAM(org_param, "org", "Organisation that answers for it.", "{\"type\":\"string\"}");
PARAM(reviewed_param, "reviewed_by", "Who has reviewed it.", "{\"type\":\"string\"}");

static const struct route_param *const queue_params[] = {&n_param, &mode_param, &strategy_param, &user_param,
                                                         NULL};
static const struct route_param *const review_params[] = {&list_param, &n_param, NULL};
static const struct route_param *const labels_params[] = {&purpose_param, &by_param, &dmg_class_param, NULL};
static const struct route_param *const overwrite_params[] = {&overwrite_param, NULL};
static const struct route_param *const history_params[] = {&history_after_param, &history_limit_param,
                                                           &bldg_id_param, NULL};
static const struct route_param *const chip_params[] = {&size_m_param, &px_param, &shift_param, &rev_param,
                                                        NULL};
static const struct route_param *const files_params[] = {&path_param, NULL};
static const struct route_param *const ref_params[] = {&ref_param, NULL};
static const struct route_param *const thumbnail_params[] = {&ref_param, &px_param, &bands_param, NULL};
static const struct route_param *const jobs_params[] = {&assessment_param, &job_status_param, NULL};
static const struct route_param *const events_params[] = {&assessment_param, NULL};
static const struct route_param *const estimate_params[] = {&method_param, &cut_param, &half_width_param,
                                                            &zones_param, NULL};
static const struct route_param *const report_params[] = {&method_param, &cut_param,      &zones_param,
                                                          &lang_param,   &paper_param,    &title_param,
                                                          &org_param,    &reviewed_param, NULL};

static const struct route_param *const items_params[] = {
    &limit_param,  &bbox_param,   &bbox_crs_param, &crs_param,       &datetime_param,
    &after_param,  &sortby_param, &bldg_id_param,  &dmg_class_param, &dmg_level_param,
    &status_param, &reason_param, &zone_id_param,  &lbl_src_param,   &min_p_param,
    &max_p_param,  NULL};
static const struct route_param *const item_params[] = {&crs_param, NULL};
static const struct route_param *const tile_params[] = {&rev_param, NULL};

static const struct route_param variables[] = {
    {"collectionId", "Id of a collection, from /collections.", "{\"type\":\"string\"}"},
    {"featureId", "Number of a feature.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"assessmentId", "Id of an assessment, from /assessments.", "{\"type\":\"string\"}"},
    {"file", "Name of a file.", "{\"type\":\"string\"}"},
    {"layer", "Picture layer.",
     "{\"type\":\"string\",\"enum\":[\"pre\",\"post\",\"damage\",\"prob\",\"uncertainty\",\"shift\"]}"},
    {"z", "Zoom level of the Web Mercator pyramid.", "{\"type\":\"integer\",\"minimum\":0,\"maximum\":24}"},
    {"x", "Column, from the west.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"y", "Row, from the north.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"buildingId", "Id of a building, from the footprints.", "{\"type\":\"string\"}"},
    {"date", "pre or post.", "{\"type\":\"string\",\"enum\":[\"pre\",\"post\"]}"},
    {"uploadId", "Id of an upload.", "{\"type\":\"string\"}"},
    {"processId", "Id of a process, from /processes.", "{\"type\":\"string\"}"},
    {"modelId", "Name of a model, such as m-3.", "{\"type\":\"string\"}"},
    {"jobId", "Id of a job, from /jobs.", "{\"type\":\"string\"}"},
    {"tileMatrix", "Zoom level of the tile matrix set.",
     "{\"type\":\"integer\",\"minimum\":0,\"maximum\":24}"},
    {"tileRow", "Row, from the north.", "{\"type\":\"integer\",\"minimum\":0}"},
    {"tileCol", "Column, from the west.", "{\"type\":\"integer\",\"minimum\":0}"},
};

/* ---- what answers and bodies are
 * ----------------------------------------------------------------------------------- */

static const struct route_types json_types = {{HTTP_JSON}, {"json"}};
static const struct route_types page_types = {{HTTP_JSON, HTTP_HTML}, {"json", "html"}};
static const struct route_types openapi_types = {{HTTP_OPENAPI, HTTP_JSON}, {"openapi", "json"}};
static const struct route_types html_types = {{HTTP_HTML}, {"html"}};
static const struct route_types schema_types = {{HTTP_SCHEMA, HTTP_JSON}, {"schema", "json"}};
static const struct route_types items_types = {{HTTP_GEOJSON, HTTP_JSON, HTTP_CSV},
                                               {"geojson", "json", "csv"}};
static const struct route_types item_types = {{HTTP_GEOJSON, HTTP_JSON}, {"geojson", "json"}};
static const struct route_types png_types = {{"image/png"}, {"png"}};

static const struct route_body session_body = {
    4096,
    {HTTP_JSON},
    "{\"type\":\"object\",\"required\":[\"token\"],\"properties\":{\"token\":{\"type\":\"string\"}}}"};

static const struct route_body upload_body = {
    4096,
    {HTTP_JSON},
    "{\"type\":\"object\",\"required\":[\"name\",\"bytes\"],\"properties\":{"
    "\"name\":{\"type\":\"string\"},\"bytes\":{\"type\":\"integer\"}}}"};
static const struct route_body chunk_body = {8 << 20, {"application/octet-stream"}, NULL};
#define ZONES_SCHEMA                                                                                         \
    "\"zones\":{\"type\":\"object\",\"nullable\":true,\"required\":[\"ref\",\"id_field\"],"                  \
    "\"properties\":{\"ref\":{\"type\":\"string\"},\"id_field\":{\"type\":\"string\"},"                      \
    "\"name_field\":{\"type\":\"string\"}}}"
static const struct route_body assessment_body = {
    1 << 20,
    {HTTP_JSON},
    "{\"type\":\"object\",\"required\":[\"title\",\"pre\",\"post\",\"footprints\"],\"properties\":{"
    "\"id\":{\"type\":\"string\",\"pattern\":\"^[a-z0-9][a-z0-9_-]{0,39}$\"},\"title\":{\"type\":\"string\"},"
    "\"event\":{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\"},\"date\":{\"type\":"
    "\"string\",\"format\":\"date\"}}},"
    "\"pre\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"post\":{\"type\":\"array\",\"items\":{"
    "\"type\":\"string\"}},"
    "\"footprints\":{\"type\":\"string\"},\"layer\":{\"type\":\"string\"},\"id_field\":{\"type\":\"string\"},"
    "\"label_field\":{\"type\":\"string\"},\"label_map\":{\"type\":\"string\"},\"cut\":{\"type\":\"integer\"}"
    ","
    "\"gsd_m\":{\"type\":\"number\"},\"size_m\":{\"type\":\"number\"}," ZONES_SCHEMA ","
    "\"aoi\":{\"description\":\"GeoJSON Polygon or MultiPolygon, or the name of a file of polygons: only "
    "footprints that touch it are read\"}}}"};
static const struct route_body patch_body = {64 << 10,
                                             {HTTP_JSON},
                                             "{\"type\":\"object\",\"properties\":{\"title\":{\"type\":"
                                             "\"string\"},\"event\":{\"type\":\"object\"}," ZONES_SCHEMA
                                             "}}"};
static const struct route_body label_body = {
    64 << 10,
    {HTTP_JSON},
    "{\"type\":\"object\",\"properties\":{\"dmg_class\":{\"type\":\"string\",\"enum\":[\"none\",\"minor\","
    "\"major\",\"destroyed\","
    "\"unknown\"]},\"reason\":{\"type\":\"string\"},\"sure\":{\"type\":\"boolean\"},\"note\":{\"type\":"
    "\"string\"},"
    "\"shift\":{\"type\":\"array\",\"items\":{\"type\":\"number\"}},\"by\":{\"type\":\"string\"},"
    "\"purpose\":{\"type\":\"string\",\"enum\":[\"train\",\"validate\"]},\"draw\":{\"type\":\"integer\"}}}"};
static const struct route_body labels_body = {
    16 << 20,
    {HTTP_JSON, HTTP_GEOJSON, "text/csv"},
    "{\"type\":\"object\",\"required\":[\"labels\"],\"properties\":{\"labels\":{"
    "\"type\":\"array\",\"items\":{\"type\":\"object\"}}}}"};
static const struct route_body execution_body = {
    1 << 20,
    {HTTP_JSON},
    "{\"type\":\"object\",\"required\":[\"inputs\"],\"properties\":{\"inputs\":{\"type\":\"object\","
    "\"required\":[\"assessment\"]}}}"};

static const struct route table[] = {
    {"GET", "/", landing_get, "getLandingPage", "Entry point with links; the map page for browsers",
     "service", NULL, &page_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/api", openapi_get, "getApi", "This description as OpenAPI 3.0", "service", NULL, &openapi_types,
     NULL, AUTH_NOBODY, 0},
    {"GET", "/api.html", openapi_html_get, "getApiHtml", "This description to read", "service", NULL,
     &html_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/conformance", conformance_get, "getConformance", "Conformance classes kept", "service", NULL,
     &json_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/healthz", health_get, "getHealth", "Whether the server answers", "service", NULL, &json_types,
     NULL, AUTH_NOBODY, 0},
    {"GET", "/readyz", ready_get, "getReadiness", "Whether every map folder can still be read", "service",
     NULL, &json_types, NULL, AUTH_NOBODY, 0},
    {"GET", "/metrics", metrics_get, "getMetrics", "Counters in Prometheus' text format", "service", NULL,
     NULL, NULL, AUTH_READER, 0},
    {"GET", "/ui/{file}", asset_get, "getPageFile", "Script and style of the map page", "service", NULL, NULL,
     NULL, AUTH_NOBODY, 0},
    {"GET", "/session", session_get, "getSession", "Who asks, and what they may", "service", NULL,
     &json_types, NULL, AUTH_NOBODY, 0},
    {"POST", "/session", session_post, "signIn", "Trade a token for a cookie", "service", NULL, &json_types,
     &session_body, AUTH_NOBODY, 0},
    {"DELETE", "/session", session_delete, "signOut", "Give the cookie back", "service", NULL, NULL, NULL,
     AUTH_NOBODY, 0},
    {"GET", "/collections", collections_get, "getCollections", "All feature collections", "features", NULL,
     &json_types, NULL, AUTH_READER, 0},
    {"GET", "/collections/{collectionId}", collection_get, "getCollection", "One feature collection",
     "features", NULL, &json_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/schema", schema_get, "getSchema", "JSON schema of the properties",
     "features", NULL, &schema_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/queryables", queryables_get, "getQueryables",
     "Properties that can be filtered", "features", NULL, &schema_types, NULL, AUTH_READER,
     ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/items", items_get, "getItems", "Features, page by page", "features",
     items_params, &items_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/items/{featureId}", item_get, "getItem", "One feature", "features",
     item_params, &item_types, NULL, AUTH_READER, ROUTE_PER_COLLECTION},
    {"GET", "/collections/{collectionId}/map/tiles", map_tile_sets_get, "getMapTileSets",
     "Tile sets of the damage layer", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/collections/{collectionId}/map/tiles/WebMercatorQuad", map_tile_set_get, "getMapTileSet",
     "The damage layer's tile set", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/collections/{collectionId}/map/tiles/WebMercatorQuad/{tileMatrix}/{tileRow}/{tileCol}",
     map_tile_get, "getMapTile", "A tile of the damage layer, row before column; 204 where it is empty",
     "tiles", NULL, &png_types, NULL, AUTH_READER, 0},
    {"GET", "/tileMatrixSets", tile_sets_get, "getTileMatrixSets", "Tile matrix sets", "tiles", NULL,
     &json_types, NULL, AUTH_READER, 0},
    {"GET", "/tileMatrixSets/WebMercatorQuad", tile_set_get, "getTileMatrixSet",
     "The Web Mercator pyramid as OGC tile matrix set", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/wmts/WMTSCapabilities.xml", wmts_get, "getWmtsCapabilities", "All picture layers as WMTS 1.0.0",
     "tiles", NULL, NULL, NULL, AUTH_READER, 0},
    {"GET", "/assessments", assessments_get, "getAssessments", "All maps with their layers and files",
     "assessments", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/assessments/{assessmentId}", assessment_get, "getAssessment",
     "One map with its layers and files", "assessments", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/assessments/{assessmentId}/exports/{file}", export_get, "getExport",
     "A file of the map, whole or by byte range", "assessments", NULL, NULL, NULL, AUTH_READER, 0},
    {"GET", "/tiles/{assessmentId}/{layer}/tilejson.json", tilejson_get, "getTileJson",
     "TileJSON of a picture layer", "tiles", NULL, &json_types, NULL, AUTH_READER, 0},
    {"GET", "/tiles/{assessmentId}/{layer}/{z}/{x}/{y}.png", tile_get, "getTile",
     "A 256 pixel Web Mercator tile; 204 where the layer is empty", "tiles", tile_params, &png_types, NULL,
     AUTH_READER, 0},
    {"POST", "/assessments", assessments_post, "createAssessment",
     "Make an assessment; its import starts at once", "assessments", NULL, &json_types, &assessment_body,
     AUTH_EDITOR, ROUTE_WORKFLOW},
    {"PATCH", "/assessments/{assessmentId}", assessment_patch, "editAssessment",
     "Change title, event and zones; If-Match", "assessments", NULL, &json_types, &patch_body, AUTH_EDITOR,
     ROUTE_WORKFLOW},
    {"DELETE", "/assessments/{assessmentId}", assessment_delete, "removeAssessment",
     "Put an assessment into the data root's .trash; If-Match", "assessments", NULL, NULL, NULL, AUTH_ADMIN,
     ROUTE_WORKFLOW},
    {"GET", "/files", files_get, "getFiles", "A folder of the data root", "files", files_params, &json_types,
     NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/files/info", file_info_get, "getFileInfo", "What a file is", "files", ref_params, &json_types,
     NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/files/thumbnail.png", thumbnail_get, "getThumbnail", "A small picture of a raster", "files",
     thumbnail_params, &png_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/uploads", uploads_get, "getUploads", "All uploads", "files", NULL, &json_types, NULL,
     AUTH_EDITOR, ROUTE_WORKFLOW},
    {"POST", "/uploads", upload_post, "beginUpload", "Begin an upload", "files", NULL, &json_types,
     &upload_body, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/uploads/{uploadId}", upload_get, "getUpload", "How far an upload has come", "files", NULL,
     &json_types, NULL, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"PATCH", "/uploads/{uploadId}", upload_patch, "sendPiece", "The next piece, with Content-Range", "files",
     NULL, NULL, &chunk_body, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"DELETE", "/uploads/{uploadId}", upload_delete, "removeUpload", "Throw an upload away", "files", NULL,
     NULL, NULL, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/checks", checks_get, "getChecks",
     "Images, footprints and alignment, judged", "labelling", NULL, &json_types, NULL, AUTH_READER,
     ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/buildings/{buildingId}", building_get, "getBuilding",
     "A building with outline, shift, label and prediction", "labelling", NULL, &json_types, NULL,
     AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/chips/{buildingId}/{date}.png", chip_get, "getChip",
     "A building before or after the event", "labelling", chip_params, &png_types, NULL, AUTH_READER,
     ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/queue", queue_get, "getQueue", "What to label next, and why",
     "labelling", queue_params, &json_types, NULL, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/review", review_get, "getReview", "Buildings for a second look",
     "labelling", review_params, &json_types, NULL, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/labels", labels_get, "getLabels", "Current labels", "labelling",
     labels_params, &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"POST", "/assessments/{assessmentId}/labels", labels_post, "importLabels", "Many labels at once",
     "labelling", overwrite_params, &json_types, &labels_body, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/labels/history", labels_history_get, "getLabelHistory",
     "Every change of every label", "labelling", history_params, &json_types, NULL, AUTH_READER,
     ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/labels/{buildingId}", label_get, "getLabel", "A building's label",
     "labelling", NULL, &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"PUT", "/assessments/{assessmentId}/labels/{buildingId}", label_put, "setLabel",
     "Label a building; If-Match or If-None-Match: *", "labelling", NULL, &json_types, &label_body,
     AUTH_EDITOR, ROUTE_WORKFLOW},
    {"DELETE", "/assessments/{assessmentId}/labels/{buildingId}", label_delete, "clearLabel",
     "Take a label back; If-Match", "labelling", NULL, NULL, NULL, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/metrics", learning_get, "getLearning",
     "Labels, trainings, and the map's worth on the blind sample", "results", NULL, &json_types, NULL,
     AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/models", models_get, "getModels", "Models it has trained", "results",
     NULL, &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/models/{modelId}", model_get, "getModel",
     "What a model says of itself", "results", NULL, &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/models/{modelId}/weights.safetensors", model_weights_get,
     "getModelWeights", "A model's file, whole or by byte range", "results", NULL, NULL, NULL, AUTH_EDITOR,
     ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/estimate", estimate_get, "getEstimate",
     "Totals with intervals; 409 says why not", "results", estimate_params, &json_types, NULL, AUTH_READER,
     ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/report.html", report_get, "getReportHtml", "The report to print",
     "results", report_params, NULL, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/assessments/{assessmentId}/report.json", report_get, "getReportJson", "The report as JSON",
     "results", report_params, &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/processes", processes_get, "getProcesses", "Work that can be started", "jobs", NULL,
     &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/processes/{processId}", process_get, "getProcess", "One process and its inputs", "jobs", NULL,
     &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"POST", "/processes/{processId}/execution", execution_post, "execute", "Start work; always asynchronous",
     "jobs", NULL, &json_types, &execution_body, AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/jobs", jobs_route_get, "getJobs", "All jobs", "jobs", jobs_params, &json_types, NULL,
     AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/jobs/events", jobs_events_get, "getJobsEvents", "Changes of all jobs as server-sent events",
     "jobs", events_params, NULL, NULL, AUTH_READER, ROUTE_WORKFLOW | ROUTE_STREAM},
    {"GET", "/jobs/{jobId}", job_get, "getJob", "One job", "jobs", NULL, &json_types, NULL, AUTH_READER,
     ROUTE_WORKFLOW},
    {"DELETE", "/jobs/{jobId}", job_delete, "dismissJob", "Dismiss a job", "jobs", NULL, &json_types, NULL,
     AUTH_EDITOR, ROUTE_WORKFLOW},
    {"GET", "/jobs/{jobId}/results", job_results_get, "getResults", "What a job made", "jobs", NULL,
     &json_types, NULL, AUTH_READER, ROUTE_WORKFLOW},
    {"GET", "/jobs/{jobId}/events", job_events_get, "getJobEvents", "Changes of a job as server-sent events",
     "jobs", NULL, NULL, NULL, AUTH_READER, ROUTE_WORKFLOW | ROUTE_STREAM},
};

const struct route *routes_table(int *n)
{
    *n = (int)(sizeof table / sizeof *table);
    return table;
}

const struct route_param *routes_variable(const char *name)
{
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (strcmp(variables[i].name, name) == 0)
            return &variables[i];
    return NULL;
}
