#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "cairn/export.h"

namespace cairn {

// The name of a tensor: 1 to 255 bytes of any value, compared whole. A view: the bytes must
// outlive the call that takes the key. A store adds its fingerprint to every key, so the same
// bytes under two fingerprints are two tensors.
//
//   store->Get("layer0/block17", {});
//
// Hosts with a chain of KV blocks use the chain hash of each block (32 bytes or more: two blocks
// with one key are one tensor). A tenant is a key prefix: Scan and ErasePrefix take one.
class CAIRN_EXPORT TensorKey {
 public:
  static constexpr size_t kBytesMax = 255;

  TensorKey(std::string_view bytes) : bytes_(bytes) {}    // NOLINT(google-explicit-constructor)
  TensorKey(const std::string& bytes) : bytes_(bytes) {}  // NOLINT(google-explicit-constructor)
  TensorKey(const char* bytes) : bytes_(bytes) {}         // NOLINT(google-explicit-constructor)

  std::string_view bytes() const { return bytes_; }

  // XXH3-64 of the bytes. Stable across processes and releases.
  uint64_t hash() const;

  friend bool operator==(TensorKey a, TensorKey b) { return a.bytes_ == b.bytes_; }

 private:
  std::string_view bytes_;
};

}  // namespace cairn
