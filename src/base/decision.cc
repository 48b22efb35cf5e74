#include <array>
#include <utility>

#include "cairn/journal.h"

namespace cairn {
namespace {

constexpr std::array<std::pair<const char*, const char*>, kDecisions> kTexts = {{
    {"put", "put into L2"},
    {"put_from", "put from the caller's memory to L3, past L2"},
    {"put_refused", "not put: there was no room in time"},
    {"admitted_promised", "to be written to L3, as the put was promised that"},
    {"admitted_second_sight", "to be written to L3: it is wanted again"},
    {"admitted_first_sight", "to be written to L3: the write budget allowed it"},
    {"refused_partial", "not written to L3: a block that is not full yet"},
    {"refused_first_sight", "not written to L3: new, and the write budget had nothing in hand"},
    {"refused_over_budget", "not written to L3: wanted again, but the write budget owes too much"},
    {"written", "on L3 and in the index"},
    {"write_failed", "could not be written to L3"},
    {"loaded", "read from L3 into L2 for who asked for it"},
    {"prefetched", "read from L3 into L2 ahead of its use"},
    {"load_failed", "could not be read from L3; the next one to ask may try again"},
    {"damaged", "the bytes on L3 do not verify: nobody gets them"},
    {"lifted", "copied to L1"},
    {"evicted_l1", "left L1 for room"},
    {"dropped_l1", "left L1 as Evict asked"},
    {"evicted_l2", "left L2 for room; it is on L3"},
    {"pressed_l2", "left L2 as memory ran short; it is on L3"},
    {"dropped_l2", "left L2 as Evict asked"},
    {"cleared_l2", "left L2 for room in one piece; it is on L3"},
    {"moved_l2", "moved within L2 for room in one piece"},
    {"lost", "left L2, and so the store: it was not on L3"},
    {"evicted_l3", "left L3, and so the store, for room"},
    {"replaced", "replaced by a newer put of its key"},
    {"erased", "erased"},
    {"expired", "expired"},
    {"cleared_l1", "left L1 for room in one piece"},
    {"moved_l1", "moved within L1 for room in one piece"},
    {"cleared_l3", "left L3, and so the store, for room in one piece"},
    {"moved_l3", "moved within L3 for room in one piece"},
}};

}  // namespace

const char* DecisionName(Decision decision) { return kTexts[static_cast<size_t>(decision)].first; }

const char* DecisionText(Decision decision) { return kTexts[static_cast<size_t>(decision)].second; }

}  // namespace cairn
