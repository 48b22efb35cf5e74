#pragma once

#include <string>
#include <vector>

#include "bench/peers/figures.h"
#include "bench/peers/peer_store.h"

namespace cairn::peers {

// Markdown: for each size of tensors what is acknowledged when written, and what when flushed. A
// row for each of the kinds that has figures: the median over its runs, and their range.
std::string MarkdownTables(const std::vector<PeerKind>& kinds, const std::vector<Figures>& runs);

// The value that `share` of the values (0 to 1) do not exceed. At least one value.
double Quantile(std::vector<double> values, double share);

}  // namespace cairn::peers
