// Bins of the histograms of HU of pieces, as in src_ext/pieces.h.
#pragma once

const int BINS = 128, BIN_FLOOR_HU = -1024, BIN_HU = 8, BIN_SHIFT = 3;
static_assert(1 << BIN_SHIFT == BIN_HU, "bins are told by shifting");
