# SPDX-License-Identifier: Apache-2.0
am_library(am_web web am_geo PkgConfig::MHD Threads::Threads)
