#pragma once

namespace cairn::offload {

// From here on the first SIGINT or SIGTERM only makes Interrupted() true; a second one ends the
// process as it would have without this.
void CatchInterrupts();
bool Interrupted();

}  // namespace cairn::offload
