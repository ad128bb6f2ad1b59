# SPDX-License-Identifier: Apache-2.0
# Programs of the bundled sample: the scene maker.
