#include "tests/fuzz/mutation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace cairn::fuzz {
namespace {

constexpr size_t kInputBytesMax = 65536;
constexpr uint64_t kChangesMax = 8;
constexpr size_t kMovedBytesMax = 32;

constexpr std::array<uint64_t, 14> kEdges = {0,
                                             1,
                                             0x7f,
                                             0x80,
                                             0xff,
                                             0x1000,
                                             0xffff,
                                             0x7fffffff,
                                             0x80000000,
                                             uint64_t{1} << 32,
                                             uint64_t{1} << 40,
                                             uint64_t{1} << 63,
                                             UINT64_MAX - 1,
                                             UINT64_MAX};

class Mutator {
 public:
  Mutator(const std::vector<std::string>& seeds, std::mt19937_64& random)
      : seeds_(seeds), random_(random), bytes_(seeds[Below(seeds.size())]) {}

  std::string Run() {
    for (uint64_t left = 1 + Below(kChangesMax); left > 0; --left) ChangeOnce();
    return std::move(bytes_);
  }

 private:
  uint64_t Below(uint64_t end) { return random_() % end; }

  void ChangeOnce() {
    if (bytes_.empty()) {
      bytes_.assign(1 + Below(kMovedBytesMax), '\0');
      return;
    }
    const size_t at = Below(bytes_.size());
    const size_t count = std::min(1 + Below(kMovedBytesMax), bytes_.size() - at);
    switch (Below(9)) {
      case 0:
        bytes_[at] = static_cast<char>(bytes_[at] ^ (1 << Below(8)));
        break;
      case 1:
        bytes_[at] = static_cast<char>(random_());
        break;
      case 2:
        PutEdge(at);
        break;
      case 3:
        bytes_.erase(at, count);
        break;
      case 4:
        Insert(at, bytes_.substr(at, count));
        break;
      case 5:
        Insert(at, std::string(count, static_cast<char>(random_())));
        break;
      case 6:
        TakeFromAnother(at);
        break;
      case 7:
        bytes_[at] = static_cast<char>(bytes_[at] + (Below(2) == 0 ? 1 : -1));
        break;
      default:
        // Rarely: what is cut off is lost to the changes behind it.
        if (Below(8) == 0) bytes_.resize(at);
        break;
    }
  }

  void PutEdge(size_t at) {
    const uint64_t edge = kEdges[Below(kEdges.size())];
    const size_t width = std::min(size_t{1} << Below(4), bytes_.size() - at);
    for (size_t i = 0; i < width; ++i) {
      bytes_[at + i] = static_cast<char>(static_cast<uint8_t>(edge >> (8 * i)));
    }
  }

  void Insert(size_t at, const std::string& piece) {
    if (bytes_.size() + piece.size() <= kInputBytesMax) bytes_.insert(at, piece);
  }

  void TakeFromAnother(size_t at) {
    const std::string& other = seeds_[Below(seeds_.size())];
    if (at >= other.size()) return;
    const size_t count = std::min({1 + Below(256), other.size() - at, bytes_.size() - at});
    bytes_.replace(at, count, other, at, count);
  }

  const std::vector<std::string>& seeds_;
  std::mt19937_64& random_;
  std::string bytes_;
};

}  // namespace

std::string Mutated(const std::vector<std::string>& seeds, std::mt19937_64& random) {
  return Mutator(seeds, random).Run();
}

}  // namespace cairn::fuzz
