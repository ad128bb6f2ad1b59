# SPDX-License-Identifier: Apache-2.0
# Programs of the bundled sample: the scene maker. It stands on models/base alone, so it builds in seconds.
file(GLOB scene_sources CONFIGURE_DEPENDS samples/scene/*.c)
add_executable(aftermap-scene ${scene_sources})
target_link_libraries(aftermap-scene PRIVATE am_base PkgConfig::GDAL PkgConfig::CJSON OpenMP::OpenMP_C)
