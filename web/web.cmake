# SPDX-License-Identifier: Apache-2.0
# The server, and the browser page it carries. The page is built in the build tree (never in the sources) from npm packages
# that package-lock.json pins by digest; --ignore-scripts keeps packages from running anything at installation.
am_library(am_web web am_geo PkgConfig::MHD PkgConfig::ZLIB Threads::Threads)

if(AM_UI)
  find_program(NODE_PROGRAM NAMES node nodejs REQUIRED)
  find_program(NPM_PROGRAM npm REQUIRED)
  set(ui_source ${PROJECT_SOURCE_DIR}/web/ui)
  set(ui_build ${PROJECT_BINARY_DIR}/web_ui)
  file(GLOB_RECURSE ui_sources CONFIGURE_DEPENDS ${ui_source}/src/*)
  set(ui_setup ${ui_source}/package.json ${ui_source}/package-lock.json ${ui_source}/.npmrc)
  set(ui_config ${ui_source}/build.mjs ${ui_source}/tsconfig.json)

  add_custom_command(
    OUTPUT ${ui_build}/packages.stamp
    COMMAND ${CMAKE_COMMAND} -E make_directory ${ui_build}
    COMMAND ${CMAKE_COMMAND} -E copy ${ui_setup} ${ui_build}
    COMMAND ${CMAKE_COMMAND} -E chdir ${ui_build} ${NPM_PROGRAM} ci --ignore-scripts --no-audit --no-fund --loglevel=error
    COMMAND ${CMAKE_COMMAND} -E touch ${ui_build}/packages.stamp
    DEPENDS ${ui_setup}
    WORKING_DIRECTORY ${PROJECT_BINARY_DIR}
    COMMENT "Installing the page's packages (npm ci)"
    VERBATIM)

  set(ui_products ${ui_build}/dist/index.html.gz ${ui_build}/dist/app.js.gz ${ui_build}/dist/app.css.gz)
  add_custom_command(
    OUTPUT ${ui_products}
    COMMAND ${CMAKE_COMMAND} -E rm -rf ${ui_build}/src
    COMMAND ${CMAKE_COMMAND} -E copy_directory ${ui_source}/src ${ui_build}/src
    COMMAND ${CMAKE_COMMAND} -E copy ${ui_config} ${ui_build}
    COMMAND ${CMAKE_COMMAND} -E chdir ${ui_build} ${NPM_PROGRAM} run --silent build
    DEPENDS ${ui_build}/packages.stamp ${ui_config} ${ui_sources}
    WORKING_DIRECTORY ${PROJECT_BINARY_DIR}
    COMMENT "Building the page (tsc, esbuild)"
    VERBATIM)
  add_custom_target(web_page DEPENDS ${ui_products})
  add_dependencies(am_web web_page)
  set_source_files_properties(web/page.c PROPERTIES OBJECT_DEPENDS "${ui_products}"
                                                    COMPILE_DEFINITIONS "AM_UI_DIST=\"${ui_build}/dist\"")
endif()
