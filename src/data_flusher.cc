#include "src/data_flusher.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace cairn {

DataFlusher::DataFlusher(const StoreFiles* files, NvmeTier* l3, FlushFile flush_file)
    : files_(files), l3_(l3), flush_file_(std::move(flush_file)), states_(files->files().size()) {}

absl::Status DataFlusher::Flush(size_t file) {
  const int fd = files_->files()[file].fd;
  if (fd < 0) return absl::OkStatus();
  {
    MutexLock lock(mutex_);
    while (states_[file].flushing) flushed_.Wait(mutex_);
    if (!states_[file].given_up.empty()) return absl::UnavailableError(states_[file].given_up);
    states_[file].flushing = true;
  }
  const int error = flush_file_(fd);
  // Before anybody can be told that it failed.
  if (error != 0) l3_->GiveUp(file);
  MutexLock lock(mutex_);
  File& state = states_[file];
  state.flushing = false;
  flushed_.NotifyAll();
  if (error == 0) return absl::OkStatus();
  state.given_up =
      absl::StrCat("data file ", file, " is given up until the next Open, as a flush failed: ",
                   absl::ErrnoToStatus(error, "fdatasync").message());
  return absl::UnavailableError(state.given_up);
}

absl::Status DataFlusher::FlushAll() {
  absl::Status first;
  for (size_t file = 0; file < files_->files().size(); ++file) {
    const absl::Status flushed = Flush(file);
    if (!flushed.ok() && l3_->GivenUpBytesUsed(file) > 0) first.Update(flushed);
  }
  return first;
}

uint64_t DataFlusher::given_up_count() const {
  MutexLock lock(mutex_);
  uint64_t count = 0;
  for (const File& file : states_) count += file.given_up.empty() ? 0 : 1;
  return count;
}

std::string DataFlusher::GivenUp() const {
  MutexLock lock(mutex_);
  std::string text;
  for (const File& file : states_) {
    if (file.given_up.empty()) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", file.given_up);
  }
  return text;
}

}  // namespace cairn
