#include "bench/peers/peer_store.h"

namespace cairn::peers {

std::vector<PeerKind> PeerKinds() {
  std::vector<PeerKind> kinds = CairnKinds();
  const auto add = [&kinds](std::vector<PeerKind> more) {
    for (PeerKind& kind : more) kinds.push_back(std::move(kind));
  };
  add(RocksDbKinds());
#ifdef CAIRN_PEERS_LEVELDB
  add(LevelDbKinds());
#endif
#ifdef CAIRN_PEERS_LMDB
  add(LmdbKinds());
#endif
  add(FileKinds());
  return kinds;
}

}  // namespace cairn::peers
