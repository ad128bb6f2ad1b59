/* SPDX-License-Identifier: Apache-2.0
 *
 * report_words.c - the texts of the report in English, French, Spanish and Arabic, and how each writes numbers.
 * A text missing in a language would show as an empty string; a test looks for that. */
#include "geo/report_parts.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const char *const words[N_REPORT_WORDS][REPORT_LANGS] = {
    [WORD_TITLE] = {"Building damage assessment", "Évaluation des dommages aux bâtiments",
                    "Evaluación de daños en edificios", "تقييم أضرار المباني"},
    [WORD_SUMMARY] = {"Summary", "Résumé", "Resumen", "ملخص"},
    [WORD_HEADLINE] = {"About {0} of {1} buildings are damaged ({2} % interval: {3} to {4}).",
                       "Environ {0} bâtiments sur {1} sont endommagés (intervalle à {2} % : de {3} à {4}).",
                       "Unos {0} de {1} edificios están dañados (intervalo del {2} %: de {3} a {4}).",
                       "نحو {0} من أصل {1} مبنى متضررة (فترة الثقة {2}٪: من {3} إلى {4})."},
    [WORD_HEADLINE_SHARE] =
        {"That is {0} % of all buildings ({1} to {2} %). Damaged means: {3} or worse.",
         "Soit {0} % des bâtiments (de {1} à {2} %). Endommagé signifie : {3} ou pire.",
         "Es decir, el {0} % de los edificios (de {1} a {2} %). Dañado significa: {3} o peor.",
         "أي {0}٪ من جميع المباني (من {1} إلى {2}٪). المتضرر يعني: {3} أو أسوأ."},
    [WORD_BY_CLASS] = {"Totals by class", "Totaux par classe", "Totales por clase", "الإجمالي حسب الفئة"},
    [WORD_BY_ZONE] = {"Damaged buildings by zone", "Bâtiments endommagés par zone",
                      "Edificios dañados por zona", "المباني المتضررة حسب المنطقة"},
    [WORD_CLASS] = {"Class", "Classe", "Clase", "الفئة"},
    [WORD_GRADED] = {"Graded", "Évalués", "Evaluados", "تم تقييمها"},
    [WORD_ESTIMATE] = {"Estimate", "Estimation", "Estimación", "التقدير"},
    [WORD_INTERVAL] = {"{0} % interval", "Intervalle à {0} %", "Intervalo del {0} %", "فترة الثقة {0}٪"},
    [WORD_SHARE] = {"Share", "Part", "Proporción", "النسبة"},
    [WORD_ZONE] = {"Zone", "Zone", "Zona", "المنطقة"},
    [WORD_BUILDINGS] = {"Buildings", "Bâtiments", "Edificios", "المباني"},
    [WORD_DAMAGED] = {"damaged", "endommagé", "dañado", "متضرر"},
    [WORD_NONE] = {"no damage", "aucun dommage", "sin daño", "بدون ضرر"},
    [WORD_MINOR] = {"minor damage", "dommage mineur", "daño menor", "ضرر طفيف"},
    [WORD_MAJOR] = {"major damage", "dommage majeur", "daño mayor", "ضرر كبير"},
    [WORD_DESTROYED] = {"destroyed", "détruit", "destruido", "مدمَّر"},
    [WORD_UNKNOWN] = {"cannot be told", "indéterminé", "no se puede determinar", "لا يمكن تحديده"},
    [WORD_UNDAMAGED] = {"not damaged", "non endommagé", "no dañado", "غير متضرر"},
    [WORD_SEE_NONE] = {"roof as it was before", "toit inchangé", "tejado como antes", "السقف كما كان"},
    [WORD_SEE_MINOR] = {"most of the roof intact, parts missing or scorched",
                        "toit en grande partie intact, éléments manquants ou brûlés",
                        "la mayor parte del tejado intacta, faltan piezas o hay quemaduras",
                        "معظم السقف سليم مع أجزاء مفقودة أو محترقة"},
    [WORD_SEE_MAJOR] = {"part of the roof or a wall gone", "une partie du toit ou un mur a disparu",
                        "falta parte del tejado o un muro", "فقدان جزء من السقف أو جدار"},
    [WORD_SEE_DESTROYED] = {"collapsed, burnt out or no longer there", "effondré, brûlé ou disparu",
                            "derrumbado, quemado o desaparecido", "منهار أو محترق أو لم يعد موجودا"},
    [WORD_SEE_UNKNOWN] = {"cloud, shadow, no image or unclear", "nuage, ombre, pas d'image ou peu clair",
                          "nube, sombra, sin imagen o poco claro", "غيوم أو ظل أو لا توجد صورة أو غير واضح"},
    [WORD_TO] = {"{0} to {1}", "{0} à {1}", "{0} a {1}", "{0} إلى {1}"},
    [WORD_WHOLE] = {"All buildings", "Tous les bâtiments", "Todos los edificios", "جميع المباني"},
    [WORD_OUTSIDE] = {"outside all zones", "hors de toute zone", "fuera de toda zona", "خارج جميع المناطق"},
    [WORD_TOO_FEW] = {"no estimate: only {0} graded, {1} needed",
                      "pas d'estimation : {0} évalués seulement, {1} requis",
                      "sin estimación: solo {0} evaluados, se necesitan {1}",
                      "لا تقدير: تم تقييم {0} فقط والمطلوب {1}"},
    [WORD_GAP] = {"no estimate: a part of it has no graded building",
                  "pas d'estimation : une partie n'a aucun bâtiment évalué",
                  "sin estimación: una parte no tiene edificios evaluados",
                  "لا تقدير: جزء منها بلا مبان مقيَّمة"},
    [WORD_MAP] = {"Map", "Carte", "Mapa", "الخريطة"},
    [WORD_MAP_CAPTION] =
        {"Damage by building as the map has it, over the image after the event. North is up; the "
         "map is {0} m wide.",
         "Dommages par bâtiment selon la carte, sur l'image d'après l'événement. Le nord est en haut ; "
         "la carte mesure {0} m de large.",
         "Daños por edificio según el mapa, sobre la imagen posterior al evento. El norte está "
         "arriba; el mapa mide {0} m de ancho.",
         "الأضرار حسب المبنى كما في الخريطة فوق صورة ما بعد الحدث. الشمال إلى الأعلى وعرض الخريطة {0} متر."},
    [WORD_MAP_NO_IMAGE] =
        {"Damage by building as the map has it; the image after the event could not be read any more. "
         "North is up; the map is {0} m wide.",
         "Dommages par bâtiment selon la carte ; l'image d'après l'événement n'était plus lisible. Le "
         "nord est en haut ; la carte mesure {0} m de large.",
         "Daños por edificio según el mapa; la imagen posterior al evento ya no se pudo leer. El norte "
         "está arriba; el mapa mide {0} m de ancho.",
         "الأضرار حسب المبنى كما في الخريطة؛ تعذرت قراءة صورة ما بعد الحدث. الشمال إلى الأعلى وعرض الخريطة "
         "{0} متر."},
    [WORD_LEGEND] = {"Legend", "Légende", "Leyenda", "مفتاح الخريطة"},
    [WORD_ACCURACY] = {"How far to trust a single building", "Quelle confiance pour un bâtiment isolé",
                       "Cuánto fiarse de un solo edificio", "مدى الوثوق بمبنى واحد"},
    [WORD_PRECISION] = {"Of the buildings the map calls damaged, {0} % are ({1} to {2} %).",
                        "Parmi les bâtiments que la carte dit endommagés, {0} % le sont (de {1} à {2} %).",
                        "De los edificios que el mapa da por dañados, lo está el {0} % (de {1} a {2} %).",
                        "من المباني التي تصنفها الخريطة متضررة، {0}٪ متضررة فعلا (من {1} إلى {2}٪)."},
    [WORD_RECALL] = {"Of the damaged buildings, the map finds {0} % ({1} to {2} %).",
                     "Parmi les bâtiments endommagés, la carte en trouve {0} % (de {1} à {2} %).",
                     "De los edificios dañados, el mapa encuentra el {0} % (de {1} a {2} %).",
                     "من المباني المتضررة، تكتشف الخريطة {0}٪ (من {1} إلى {2}٪)."},
    [WORD_CANNOT_TELL] = {"The sample cannot say how good the map is at this cut.",
                          "L'échantillon ne permet pas de juger la carte à ce seuil.",
                          "La muestra no permite juzgar el mapa con este umbral.",
                          "لا تسمح العينة بالحكم على جودة الخريطة عند هذا الحد."},
    [WORD_IMAGERY] = {"Imagery", "Images", "Imágenes", "الصور"},
    [WORD_BEFORE] = {"before", "avant", "antes", "قبل"},
    [WORD_AFTER] = {"after", "après", "después", "بعد"},
    [WORD_DATE] = {"Date", "Date", "Fecha", "التاريخ"},
    [WORD_NOT_KNOWN] = {"not known", "inconnue", "desconocida", "غير معروف"},
    [WORD_FILE] = {"File", "Fichier", "Archivo", "الملف"},
    [WORD_RESOLUTION] = {"Pixel (m)", "Pixel (m)", "Píxel (m)", "البكسل (م)"},
    [WORD_METHOD] = {"Method", "Méthode", "Método", "المنهجية"},
    [WORD_METHOD_SAMPLE] =
        {"{0} of {1} buildings were drawn at random without regard to the map and graded by a person; "
         "{2} of them could not be told.",
         "{0} bâtiments sur {1} ont été tirés au hasard, sans égard à la carte, et évalués par une "
         "personne ; {2} d'entre eux sont restés indéterminés.",
         "Se sortearon {0} de {1} edificios sin mirar el mapa y una persona los evaluó; {2} de ellos no "
         "se pudieron determinar.",
         "اختير {0} من أصل {1} مبنى عشوائيا دون النظر إلى الخريطة وقيّمها شخص؛ {2} منها لم يمكن تحديده."},
    [WORD_METHOD_STRATA] = {"The draw was stratified by {0}.", "Le tirage était stratifié par {0}.",
                            "El sorteo se estratificó por {0}.", "كانت العينة طبقية حسب {0}."},
    [WORD_METHOD_EXACT] =
        {"Intervals are exact (hypergeometric, after Clopper and Pearson): they hold at least {0} % of "
         "the time.",
         "Les intervalles sont exacts (hypergéométriques, d'après Clopper et Pearson) : ils sont justes "
         "au moins {0} % du temps.",
         "Los intervalos son exactos (hipergeométricos, según Clopper y Pearson): aciertan al menos el "
         "{0} % de las veces.",
         "الفترات دقيقة (فوق هندسية وفق كلوبر وبيرسون): تصح في {0}٪ من الحالات على الأقل."},
    [WORD_METHOD_ASSISTED] =
        {"The totals rest on the graded buildings; the map only narrows the intervals "
         "(model-assisted estimate). They hold about {0} % of the time.",
         "Les totaux reposent sur les bâtiments évalués ; la carte ne fait que resserrer les "
         "intervalles (estimation assistée par modèle). Ils sont justes environ {0} % du temps.",
         "Los totales se basan en los edificios evaluados; el mapa solo estrecha los intervalos "
         "(estimación asistida por modelo). Aciertan alrededor del {0} % de las veces.",
         "تستند الأعداد إلى المباني المقيَّمة، والخريطة تضيّق الفترات فقط (تقدير بمساعدة النموذج). تصح في نحو "
         "{0}٪ "
         "من الحالات."},
    [WORD_SCALE] =
        {"Damage is graded on the joint damage scale: none, minor, major, destroyed. Damaged counts from: "
         "{0}.",
         "Les dommages suivent l'échelle conjointe : aucun, mineur, majeur, détruit. Endommagé à partir de : "
         "{0}.",
         "El daño sigue la escala conjunta: ninguno, menor, mayor, destruido. Dañado a partir de: {0}.",
         "يُقيَّم الضرر وفق المقياس المشترك: بدون، طفيف، كبير، مدمَّر. يُعد متضررا ابتداء من: {0}."},
    [WORD_LIMITS] = {"Known limits", "Limites connues", "Límites conocidos", "حدود معروفة"},
    [WORD_LIMIT_IMAGES] =
        {"Only damage that can be seen from above counts; walls, floors and cracks under a whole roof do "
         "not show.",
         "Seuls les dommages visibles d'en haut comptent ; murs, planchers et fissures sous un toit "
         "intact ne se voient pas.",
         "Solo cuenta el daño visible desde arriba; muros, suelos y grietas bajo un tejado entero no se "
         "ven.",
         "لا يُحتسب إلا الضرر المرئي من الأعلى؛ الجدران والأرضيات والشقوق تحت سقف سليم لا تظهر."},
    [WORD_LIMIT_ROOFS] = {"No visible damage does not mean that a building is safe to enter.",
                          "Sans dommage visible ne veut pas dire sans danger.",
                          "Sin daño visible no significa que sea seguro entrar.",
                          "عدم وجود ضرر مرئي لا يعني أن دخول المبنى آمن."},
    [WORD_LIMIT_GRADES] = {"The intervals cover the chance of the draw, not mistakes of those who graded.",
                           "Les intervalles couvrent le hasard du tirage, pas les erreurs des évaluateurs.",
                           "Los intervalos cubren el azar del sorteo, no los errores de quienes evaluaron.",
                           "تغطي الفترات مصادفة السحب لا أخطاء المقيِّمين."},
    [WORD_LIMIT_FOOTPRINTS] = {"Only buildings with a footprint are counted.",
                               "Seuls les bâtiments ayant une emprise sont comptés.",
                               "Solo se cuentan los edificios con huella cartografiada.",
                               "لا تُحسب إلا المباني التي لها مخطط أرضي."},
    [WORD_LIMIT_ZONES] =
        {"Each zone is estimated from its own graded buildings, so zones need not add up to the whole.",
         "Chaque zone est estimée d'après ses propres bâtiments évalués : la somme des zones peut différer "
         "du total.",
         "Cada zona se estima con sus propios edificios evaluados: la suma de las zonas puede diferir del "
         "total.",
         "تُقدَّر كل منطقة من مبانيها المقيَّمة، لذلك قد لا يساوي مجموع المناطق الإجمالي."},
    [WORD_LIMIT_SINGLE] =
        {"The map is for planning, not for deciding about a single building without looking.",
         "La carte sert à planifier, pas à décider d'un bâtiment sans le regarder.",
         "El mapa sirve para planificar, no para decidir sobre un edificio sin mirarlo.",
         "الخريطة للتخطيط لا لاتخاذ قرار بشأن مبنى واحد دون معاينته."},
    [WORD_PROVENANCE] = {"Provenance", "Provenance", "Procedencia", "المصدر"},
    [WORD_VERSION] = {"Program", "Programme", "Programa", "البرنامج"},
    [WORD_RUN] = {"Map run", "Exécution", "Ejecución", "رقم التشغيل"},
    [WORD_CREATED] = {"Map made", "Carte créée", "Mapa creado", "تاريخ إنشاء الخريطة"},
    [WORD_MODEL] = {"Model (SHA-256)", "Modèle (SHA-256)", "Modelo (SHA-256)", "النموذج (SHA-256)"},
    [WORD_EVENT] = {"Event (SHA-256)", "Événement (SHA-256)", "Evento (SHA-256)", "الحدث (SHA-256)"},
    [WORD_REVIEWED] = {"Reviewed by", "Vérifié par", "Revisado por", "راجعه"},
    [WORD_SIGNATURE] = {"Date and signature", "Date et signature", "Fecha y firma", "التاريخ والتوقيع"},
};

const char *report_word(enum report_lang lang, enum report_word word)
{
    assert(lang < REPORT_LANGS && word < N_REPORT_WORDS);
    const char *text = words[word][lang];
    return text ? text : "";
}

bool report_lang_parse(const char *text, enum report_lang *lang)
{
    static const char *const code[REPORT_LANGS] = {"en", "fr", "es", "ar"};
    for (int i = 0; i < REPORT_LANGS; i++)
        if (strcmp(text, code[i]) == 0) {
            *lang = (enum report_lang)i;
            return true;
        }
    return false;
}

void report_number(enum report_lang lang, double v, int decimals, char out[40])
{
    /* thousands, decimal mark: 1,234.5 in English and Arabic, 1 234,5 with a narrow no-break space in French and
     * Spanish */
    static const char *const group[REPORT_LANGS] = {",", "\u202f", "\u202f", ","};
    const char mark = lang == REPORT_FR || lang == REPORT_ES ? ',' : '.';
    char plain[32];
    size_t used = 0;
    snprintf(plain, sizeof plain, "%.*f", decimals, v);
    const size_t whole = strcspn(plain, ".");
    for (size_t i = 0; plain[i] && used < 32; i++) {
        if (i < whole && i > 0 && plain[i - 1] != '-' && (whole - i) % 3 == 0)
            used += (size_t)snprintf(out + used, 40 - used, "%s", group[lang]);
        out[used++] = plain[i] == '.' ? mark : plain[i];
    }
    out[used] = '\0';
}
