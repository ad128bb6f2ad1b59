/* SPDX-License-Identifier: Apache-2.0
 *
 * unet_double.h - the layers of models/net/unet*.c built a second time in double, under names of their own (unet64_),
 * so that a test can hold gradients against finite differences that float would drown. Include it once, before anything
 * of models/net; what is built on top and wanted in double as well is renamed before and included after it. */
#ifndef AM_UNET_DOUBLE_H
#define AM_UNET_DOUBLE_H

#define UNET_DOUBLE
#define unet_config_check unet64_config_check
#define unet_count unet64_count
#define unet_create unet64_create
#define unet_free unet64_free
#define unet_get_config unet64_get_config
#define unet_bytes unet64_bytes
#define unet_tensors unet64_tensors
#define unet_init unet64_init
#define unet_forward unet64_forward
#define unet_backward unet64_backward
#define unet_build unet64_build
#define unet_finish unet64_finish
#define unet_run_forward unet64_run_forward
#define unet_clear_grads unet64_clear_grads
#define unet_run_backward unet64_run_backward
#define unet_conv_open unet64_conv_open
#define unet_conv_close unet64_conv_close
#define unet_conv_forward unet64_conv_forward
#define unet_conv_backward unet64_conv_backward
#define unet_attend_forward unet64_attend_forward
#define unet_attend_backward unet64_attend_backward
#define unet_op_forward unet64_op_forward
#define unet_op_backward unet64_op_backward

#include "models/net/unet.c"
#include "models/net/unet_attention.c"
#include "models/net/unet_build.c"
#include "models/net/unet_conv.c"
#include "models/net/unet_ops.c"

#endif
