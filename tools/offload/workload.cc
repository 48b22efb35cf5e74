#include "tools/offload/workload.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <queue>
#include <utility>
#include <vector>

#include "tools/offload/block_content.h"
#include "tools/offload/block_plan.h"

namespace cairn::offload {
namespace {

// Chance that a session returns after its first, second, third, and each later turn.
constexpr std::array<double, 4> kReturnProbability = {0.24, 0.42, 0.50, 0.58};

// A log-normal distribution by two of its percentiles: what publications give.
struct LogNormal {
  double p50;
  double p90;
};
constexpr LogNormal kPauseSeconds = {114, 519};
constexpr LogNormal kQuestionTokens = {150, 800};
constexpr LogNormal kAnswerTokens = {200, 600};
constexpr LogNormal kDocumentTokens = {2000, 5000};

constexpr double kSessionsPerSecond = 3.0;
constexpr double kImageProbability = 0.25;
constexpr double kDocumentProbability = 0.25;
constexpr uint64_t kSystemPrompts = 64;
constexpr uint64_t kImages = 256;
constexpr uint64_t kContextTokensMax = 16384;

// What a run of tokens is, so that equal ids mean equal content.
enum class Content : uint64_t { kSystemPrompt = 1, kImage = 2, kText = 3 };

uint64_t ContentId(Content content, uint64_t number) {
  return Scramble((static_cast<uint64_t>(content) << 56) ^ number);
}

// The standard's distributions differ between libraries; this one gives the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(Scramble(seed)) {}

  uint64_t Next() { return Scramble(state_++); }
  // In [0, 1).
  double Fraction() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double probability) { return Fraction() < probability; }
  double Exponential(double mean) { return -mean * std::log1p(-Fraction()); }

  double Draw(const LogNormal& distribution) {
    constexpr double kZ90 = 1.2815515655446004;
    const double sigma = std::log(distribution.p90 / distribution.p50) / kZ90;
    const double radius = std::sqrt(-2 * std::log1p(-Fraction()));
    const double normal = radius * std::cos(2 * std::numbers::pi * Fraction());
    return distribution.p50 * std::exp(sigma * normal);
  }

  uint64_t DrawTokens(const LogNormal& distribution) {
    const double tokens = std::min(Draw(distribution), 1.0 * kContextTokensMax);
    return std::max<uint64_t>(1, static_cast<uint64_t>(tokens));
  }

 private:
  uint64_t state_;
};

// Picks 0 .. count-1, n with a weight of 1 / (n + 1).
class Popularity {
 public:
  explicit Popularity(uint64_t count) {
    double sum = 0;
    for (uint64_t n = 0; n < count; ++n) bounds_.push_back(sum += 1.0 / static_cast<double>(n + 1));
  }

  uint64_t Pick(Random& random) const {
    const double at = random.Fraction() * bounds_.back();
    const auto bound = std::upper_bound(bounds_.begin(), bounds_.end(), at);
    return std::min<uint64_t>(static_cast<uint64_t>(bound - bounds_.begin()), bounds_.size() - 1);
  }

 private:
  std::vector<double> bounds_;
};

// The tokens of a session so far, as the chained ids of their blocks.
class Chain {
 public:
  explicit Chain(uint32_t block_tokens) : block_tokens_(block_tokens) {}

  void Append(uint64_t content_id, uint64_t tokens) {
    for (uint64_t offset = 0; offset < tokens;) {
      const uint64_t taken = std::min(tokens - offset, block_tokens_ - tokens_ % block_tokens_);
      hash_ = Scramble(hash_ ^ Scramble(content_id + offset) ^ (taken << 48));
      offset += taken;
      tokens_ += taken;
      if (tokens_ % block_tokens_ == 0) block_ids_.push_back(hash_);
    }
  }

  uint64_t tokens() const { return tokens_; }
  std::vector<uint64_t> BlockIds() const {
    if (block_ids_.empty()) return {hash_};
    return block_ids_;
  }

 private:
  uint64_t block_tokens_;
  uint64_t hash_ = 0;
  uint64_t tokens_ = 0;
  std::vector<uint64_t> block_ids_;
};

struct Session {
  Chain chain;
  double next_turn_s = 0;
  size_t turns = 0;
};

struct Later {
  bool operator()(const Session& a, const Session& b) const {
    return a.next_turn_s > b.next_turn_s;
  }
};

class Generator {
 public:
  explicit Generator(const WorkloadOptions& options)
      : options_(options), random_(options.seed), next_arrival_s_(Pause()) {}

  // The next request of all sessions.
  Request Next() {
    while (sessions_.empty() || next_arrival_s_ <= sessions_.top().next_turn_s) Arrive();
    Session session = sessions_.top();
    sessions_.pop();
    AskQuestion(session);
    Request request;
    request.timestamp_s = session.next_turn_s;
    request.input_tokens = session.chain.tokens();
    request.output_tokens = random_.DrawTokens(kAnswerTokens);
    request.block_ids = session.chain.BlockIds();
    ReturnOrLeave(std::move(session), request.output_tokens);
    return request;
  }

 private:
  double Pause() { return random_.Exponential(1 / kSessionsPerSecond); }

  // Content nobody else has.
  void AppendText(Session& session, uint64_t tokens) {
    session.chain.Append(ContentId(Content::kText, random_.Next() >> 8), tokens);
  }

  void Arrive() {
    Session session{Chain(options_.block_tokens), next_arrival_s_, 0};
    const uint64_t prompt = ContentId(Content::kSystemPrompt, system_prompts_.Pick(random_));
    session.chain.Append(prompt, 128 + prompt % 896);
    if (random_.Chance(kImageProbability)) {
      const uint64_t image = ContentId(Content::kImage, images_.Pick(random_));
      session.chain.Append(image, kImageTokens[image % kImageTokens.size()]);
    }
    if (random_.Chance(kDocumentProbability)) {
      AppendText(session, random_.DrawTokens(kDocumentTokens));
    }
    sessions_.push(std::move(session));
    next_arrival_s_ += Pause();
  }

  void AskQuestion(Session& session) {
    AppendText(session, random_.DrawTokens(kQuestionTokens));
    ++session.turns;
  }

  void ReturnOrLeave(Session session, uint64_t answer_tokens) {
    const size_t turn = std::min(session.turns, kReturnProbability.size());
    const bool returns = random_.Chance(kReturnProbability[turn - 1]);
    if (!returns || session.chain.tokens() + answer_tokens > kContextTokensMax) return;
    AppendText(session, answer_tokens);
    session.next_turn_s += random_.Draw(kPauseSeconds);
    sessions_.push(std::move(session));
  }

  const WorkloadOptions options_;
  const Popularity system_prompts_{kSystemPrompts};
  const Popularity images_{kImages};
  Random random_;
  double next_arrival_s_;
  std::priority_queue<Session, std::vector<Session>, Later> sessions_;
};

}  // namespace

Trace GenerateWorkload(const WorkloadOptions& options) {
  Trace trace;
  trace.format = TraceFormat::kGenerated;
  trace.requests.reserve(options.requests);
  Generator generator(options);
  for (uint64_t i = 0; i < options.requests; ++i) trace.requests.push_back(generator.Next());
  return trace;
}

}  // namespace cairn::offload
