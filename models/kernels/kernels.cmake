# SPDX-License-Identifier: Apache-2.0
# The kernels are one set of bodies compiled once per instruction-set level.
am_library(am_kernels models/kernels am_base PkgConfig::OPENBLAS OpenMP::OpenMP_C)
