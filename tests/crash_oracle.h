#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/store.h"

namespace cairn {

// Knows from the words of crash_child what a store may hold after its writer was cut off.
class CrashOracle {
 public:
  enum class Cut : uint8_t {
    kProcess,  // The process died: what was acknowledged as on the device is promised.
    kPower,    // The volatile cache is lost: only what was acknowledged as flushed is promised.
  };
  explicit CrashOracle(Cut cut);

  // Lines of crash_child in order; a last one without an end is ignored.
  void Account(std::string_view said);

  // Reads every tensor. Returns what may not be, a line each; from here on, what was found is what
  // must be there.
  std::vector<std::string> Check(Store& store, const std::string& store_path);

  // After Check: what was found, for Account of a later oracle; "A KEY" says: absent.
  std::string Found() const;
  int tensors_found() const { return tensors_found_; }
  // Tensors named by the index whose bytes are not whole, where the cut explains it.
  int tensors_lost() const { return tensors_lost_; }

 private:
  // Each version started since the last one promised, and that one; nullopt: absent.
  using Allowed = std::vector<std::optional<uint64_t>>;

  void CheckKey(Store& store, int key, std::vector<std::string>& violations);

  const Cut cut_;
  std::vector<Allowed> allowed_;
  int tensors_found_ = 0;
  int tensors_lost_ = 0;
};

}  // namespace cairn
