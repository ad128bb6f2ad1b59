# SPDX-License-Identifier: Apache-2.0
# The kernels: the choice and the plain body once, the fast bodies once per instruction-set level. kernels.c chooses at start.
set(AM_KERNEL_FLAGS -O3)
if(AM_SANITIZE)
  set(AM_KERNEL_FLAGS -O1) # the unrolled tiles under sanitizers take GCC 30 s a file at -O3, 4 s at -O1
endif()
set(AM_KERNEL_LEVELS baseline)
set(AM_KERNEL_VW_baseline 4)
set(AM_KERNEL_FLAGS_baseline "")
set(AM_KERNEL_DEFINITIONS AM_KERNELS_FAST)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  list(APPEND AM_KERNEL_LEVELS avx2 avx512)
  list(APPEND AM_KERNEL_DEFINITIONS AM_KERNELS_X86)
  set(AM_KERNEL_VW_avx2 8)
  set(AM_KERNEL_FLAGS_avx2 -mavx2 -mfma)
  set(AM_KERNEL_VW_avx512 16)
  set(AM_KERNEL_FLAGS_avx512 -mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl)
endif()

add_library(am_kernels STATIC models/kernels/kernels.c models/kernels/conv_plain.c)
target_compile_definitions(am_kernels PRIVATE ${AM_KERNEL_DEFINITIONS})
target_link_libraries(am_kernels PUBLIC am_flags am_base PkgConfig::OPENBLAS OpenMP::OpenMP_C)

foreach(level ${AM_KERNEL_LEVELS})
  add_library(am_kernels_${level} OBJECT models/kernels/conv_winograd.c models/kernels/conv_direct.c
                                         models/kernels/conv_level.c)
  target_compile_definitions(am_kernels_${level} PRIVATE KERNEL_LEVEL=${level} VW=${AM_KERNEL_VW_${level}})
  target_compile_options(am_kernels_${level} PRIVATE ${AM_KERNEL_FLAGS} ${AM_KERNEL_FLAGS_${level}})
  target_link_libraries(am_kernels_${level} PRIVATE am_flags OpenMP::OpenMP_C)
  target_sources(am_kernels PRIVATE $<TARGET_OBJECTS:am_kernels_${level}>)
endforeach()
