# SPDX-License-Identifier: Apache-2.0
# What QGIS makes of a running server, without a screen: run by test_qgis.sh. Loads the buildings through the OGC API -
# Features provider, filters them by expression and by box, loads the exported GeoPackage with its own style, and draws the
# XYZ and WMTS layers. Numbers to compare with come as arguments, from other programs. Each check is a line; the last line says
# how many failed. Anything that QGIS itself warns about while layers are loaded is a failure.
import os
import sys

from qgis.core import (Qgis, QgsApplication, QgsCoordinateTransform, QgsDataSourceUri, QgsFeatureRequest,
                       QgsMapRendererParallelJob, QgsMapSettings, QgsProject, QgsRasterLayer, QgsRectangle, QgsVectorLayer)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

base, gpkg = sys.argv[1], sys.argv[2]
n_all, n_ok, n_box = (int(v) for v in sys.argv[3:6])
box = QgsRectangle(*(float(v) for v in sys.argv[6:10]))

app = QgsApplication([], False)
warnings, failed = [], 0


def said(text, tag, level):
    if level in (Qgis.Warning, Qgis.Critical):
        warnings.append("%s: %s" % (tag, text))


app.messageLog().messageReceived.connect(said)
app.initQgis()


def check(what, got, wanted):
    global failed
    good = got == wanted
    failed += not good
    print("ok  " if good else "FAIL", what, "" if good else ": got %r, wanted %r" % (got, wanted), flush=True)


def count(layer, expression=None, rectangle=None):
    request = QgsFeatureRequest()
    if expression:
        request.setFilterExpression(expression)
    if rectangle:
        request.setFilterRect(rectangle)
    return sum(1 for _ in layer.getFeatures(request))


# ---- buildings over OGC API - Features
uri = QgsDataSourceUri()
uri.setParam("url", base + "/")
uri.setParam("typename", "demo.buildings")
uri.setParam("pageSize", "500")
layer = QgsVectorLayer(uri.uri(False), "buildings", "OAPIF")
check("OAPIF: valid", layer.isValid(), True)
check("OAPIF: longitude and latitude", layer.crs().authid() in ("OGC:CRS84", "EPSG:4326"), True)
check("OAPIF: fields", {"bldg_id", "dmg_class", "p_dmg", "status"} <= set(layer.fields().names()), True)
check("OAPIF: all", count(layer), n_all)
check("OAPIF: an expression", count(layer, "status = 'ok'"), n_ok)
check("OAPIF: a box", count(layer, rectangle=box), n_box)
extent = layer.extent()
check("OAPIF: extent", 14.9 < extent.xMinimum() < extent.xMaximum() < 15.1 and 46 < extent.yMinimum() < 47, True)

# ---- the exported file, styled by itself
file = QgsVectorLayer(gpkg + "|layername=buildings", "file", "ogr")
check("GeoPackage: valid", file.isValid(), True)
check("GeoPackage: all", file.featureCount(), n_all)
check("GeoPackage: subset", (file.setSubsetString("status = 'ok'"), file.featureCount()), (True, n_ok))
file.setSubsetString("")
renderer = file.renderer()
check("GeoPackage: its own style", renderer.type(), "categorizedSymbol")
if renderer.type() == "categorizedSymbol":
    classes = file.uniqueValues(file.fields().indexOf("dmg_class"))
    check("GeoPackage: damage has classes", len(classes) > 1, True)
    check("GeoPackage: a symbol for each class", classes - {c.value() for c in renderer.categories()}, set())

# ---- pictures
xyz = QgsRasterLayer("type=xyz&zmin=0&zmax=20&url=%s/tiles/demo/post/{z}/{x}/{y}.png" % base.replace(":", "%3A", 1), "xyz", "wms")
check("XYZ: valid", xyz.isValid(), True)
wmts = QgsRasterLayer("contextualWMSLegend=0&crs=EPSG:3857&dpiMode=7&format=image/png&layers=demo.damage&styles=default"
                      "&tileMatrixSet=WebMercatorQuad&url=%s/wmts/WMTSCapabilities.xml" % base, "wmts", "wms")
check("WMTS: valid", wmts.isValid(), True)


def drawn(one):
    """Pixels of the layer's picture over the scene that are not the background."""
    settings = QgsMapSettings()
    settings.setLayers([one])
    settings.setDestinationCrs(one.crs())
    settings.setOutputSize(QSize(256, 256))
    settings.setBackgroundColor(QColor(1, 2, 3))
    to = QgsCoordinateTransform(layer.crs(), one.crs(), QgsProject.instance())
    settings.setExtent(to.transformBoundingBox(layer.extent()))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    picture = job.renderedImage()
    return sum((picture.pixel(x, y) & 0xffffff) != 0x010203 for x in range(0, 256, 4) for y in range(0, 256, 4))


for name, one in (("XYZ", xyz), ("WMTS", wmts), ("GeoPackage", file), ("OAPIF", layer)):
    if one.isValid():
        check(name + ": draws", drawn(one) > 100, True)

check("no warning of QGIS", warnings, [])
print(failed, "failed", flush=True)
sys.stdout.flush()
# Qt's threads of the network may outlive the application object: no orderly exit that could crash after the result.
os._exit(0 if failed == 0 else 1)
