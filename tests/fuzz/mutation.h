#pragma once

#include <random>
#include <string>
#include <vector>

namespace cairn::fuzz {

// A seed with one to eight changes: bits, bytes, numbers at the edges of their type, bytes moved,
// lost, doubled, or taken from another seed. Decided by `random` alone. At least one seed.
std::string Mutated(const std::vector<std::string>& seeds, std::mt19937_64& random);

}  // namespace cairn::fuzz
