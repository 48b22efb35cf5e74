#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cairn::fuzz {

// What each target (NAME_target.cc) defines; libFuzzer (libfuzzer_entry.cc) and the replay without
// it (replay.cc) call it. A target for another decoder is one such file and one line of the
// CMakeLists.txt here.

// Decodes the input and ends the process (CAIRN_CHECK) when what came out breaks a promise.
// True when at least one decoder took it: so a run can tell that it got behind the checksums.
bool Examine(std::string_view input);

// Inputs that a decoder takes, made by the encoders, so that no change of a format strands them.
// Targets whose input is text of a format that others decide have them as files in
// tests/fuzz/corpus instead.
std::vector<std::string> Seeds();

}  // namespace cairn::fuzz
