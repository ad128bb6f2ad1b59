# SPDX-License-Identifier: Apache-2.0
# Programs of the bundled sample: the scene maker. It stands on models/base alone, so it builds in seconds.
file(GLOB scene_sources CONFIGURE_DEPENDS samples/scene/*.c)
add_executable(aftermap-scene ${scene_sources})
# No NaN, infinity or errno is ever wanted from its arithmetic; saying so turns fmaxf() into an instruction.
target_compile_options(aftermap-scene PRIVATE -fno-math-errno -ffinite-math-only -fno-signed-zeros)
set_source_files_properties(samples/scene/scene_main.c PROPERTIES COMPILE_OPTIONS -fno-finite-math-only)
target_link_libraries(aftermap-scene PRIVATE am_base PkgConfig::GDAL PkgConfig::CJSON OpenMP::OpenMP_C)

# The yardstick of experiments/big_scene.sh. Built on request: cmake --build build --target aftermap-read-windows
add_executable(aftermap-read-windows EXCLUDE_FROM_ALL samples/experiments/read_windows.c)
target_link_libraries(aftermap-read-windows PRIVATE am_flags PkgConfig::GDAL)

# Simulated coverage of `aftermap estimate`. On request: cmake --build build --target aftermap-estimate-coverage
add_executable(aftermap-estimate-coverage EXCLUDE_FROM_ALL samples/experiments/estimate_coverage.c)
target_link_libraries(aftermap-estimate-coverage PRIVATE am_learn)

# One-step samplers of a ring of Gaussians (TRACT). On request: cmake --build build --target aftermap-tract-ring
add_executable(aftermap-tract-ring EXCLUDE_FROM_ALL samples/experiments/tract_ring.c)
target_link_libraries(aftermap-tract-ring PRIVATE am_learn)
