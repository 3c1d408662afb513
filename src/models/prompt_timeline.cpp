#include "models/prompt_timeline.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "models/prompt_characters.h"

namespace emulsion::models {
namespace {

constexpr size_t kMaxTimelineDepth = 100;  // brackets within brackets beyond this are text

struct Piece;
using Sequence = std::vector<Piece>;

/// Text, or a choice between sequences that depends on the step.
struct Piece {
  enum class Kind { text, scheduled, alternate } kind = Kind::text;
  std::string text;
  std::vector<Sequence> choices;  // scheduled: before, after
  int64_t when = 0;               // scheduled: the last step of `before`, counted from 1
};

void add_text(Sequence& sequence, std::string_view text) {
  if (text.empty()) return;
  if (sequence.empty() || sequence.back().kind != Piece::Kind::text) sequence.emplace_back();
  sequence.back().text += text;
}

void append(Sequence& to, Sequence from) {
  for (Piece& piece : from) {
    if (piece.kind == Piece::Kind::text) {
      add_text(to, piece.text);
    } else {
      to.push_back(std::move(piece));
    }
  }
}

/// The step that a sequence names, if it is nothing but a number.
std::optional<int64_t> read_step(const Sequence& sequence, int64_t steps) {
  if (sequence.size() != 1 || sequence.front().kind != Piece::Kind::text) return std::nullopt;
  std::string_view text = trimmed(sequence.front().text);
  if (text.starts_with('+')) text.remove_prefix(1);
  // from_chars also reads "inf" and "nan".
  if (text.find_first_not_of("-.0123456789eE+") != text.npos) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (text.find('.') != text.npos) value *= static_cast<double>(steps);
  return static_cast<int64_t>(std::clamp(value, -1.0, static_cast<double>(steps)));
}

/// An open bracket and what has been read behind it.
struct Frame {
  char bracket = 0;
  std::vector<Sequence> segments = {{}};
  std::string separators;  // between the segments

  Sequence& current() { return segments.back(); }
  bool separated_by(char c) const {
    return !separators.empty() && separators.find_first_not_of(c) == separators.npos;
  }
};

class Parser {
 public:
  Parser(std::string_view prompt, int64_t steps) : prompt_(prompt), steps_(steps) {}

  Sequence run() {
    frames_.emplace_back();
    for (size_t at = 0; at < prompt_.size();) at = consume(at);
    while (frames_.size() > 1) leave("");  // never closed
    return std::move(frames_.front().current());
  }

 private:
  size_t consume(size_t at) {
    const char c = prompt_[at];
    const size_t length = c == '\\' && at + 1 < prompt_.size() ? 2 : 1;
    Frame& top = frames_.back();
    if ((c == '[' || c == '(') && frames_.size() < kMaxTimelineDepth) {
      frames_.emplace_back().bracket = c;
    } else if ((c == ':' || c == '|') && top.bracket == '[') {
      top.separators += c;
      top.segments.emplace_back();
    } else if (c == ']' && opened('[')) {
      close_square();
    } else if (c == ')' && opened('(')) {
      leave(")");
    } else {
      add_text(top.current(), prompt_.substr(at, length));
    }
    return at + length;
  }

  /// Whether `bracket` is open; then all that were opened behind it and never closed become text.
  bool opened(char bracket) {
    const auto matches = [&](const Frame& frame) { return frame.bracket == bracket; };
    if (std::ranges::none_of(frames_, matches)) return false;
    while (frames_.back().bracket != bracket) leave("");
    return true;
  }

  /// Makes the innermost frame text of the one around it, brackets included.
  void leave(std::string_view closing) {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    Sequence& out = frames_.back().current();
    add_text(out, std::string_view(&frame.bracket, 1));
    for (size_t i = 0; i < frame.segments.size(); ++i) {
      append(out, std::move(frame.segments[i]));
      if (i < frame.separators.size()) add_text(out, std::string_view(&frame.separators[i], 1));
    }
    add_text(out, closing);
  }

  void close_square() {
    Frame& frame = frames_.back();
    std::optional<Piece> piece;
    const size_t count = frame.segments.size();
    if (frame.separated_by('|')) {
      piece = Piece{Piece::Kind::alternate, "", std::move(frame.segments), 0};
    } else if (frame.separated_by(':') && count <= 3) {
      if (const auto when = read_step(frame.current(), steps_)) {
        frame.segments.pop_back();
        if (count == 2) frame.segments.insert(frame.segments.begin(), Sequence());
        piece = Piece{Piece::Kind::scheduled, "", std::move(frame.segments), *when};
      }
    }
    if (!piece) return leave("]");
    frames_.pop_back();
    frames_.back().current().push_back(std::move(*piece));
  }

  std::string_view prompt_;
  int64_t steps_;
  std::vector<Frame> frames_;
};

/// Steps, counted from 1, after which the text may change.
void collect_ends(const Sequence& sequence, int64_t steps, std::set<int64_t>& ends) {
  for (const Piece& piece : sequence) {
    if (piece.kind == Piece::Kind::scheduled && piece.when >= 1) ends.insert(piece.when);
    if (piece.kind == Piece::Kind::alternate) {
      for (int64_t step = 1; step <= steps; ++step) ends.insert(step);
    }
    for (const Sequence& choice : piece.choices) collect_ends(choice, steps, ends);
  }
}

void write_at(const Sequence& sequence, int64_t step, std::string& out) {
  for (const Piece& piece : sequence) {
    out += piece.text;
    if (piece.kind == Piece::Kind::scheduled) {
      write_at(piece.choices[step <= piece.when ? 0 : 1], step, out);
    } else if (piece.kind == Piece::Kind::alternate) {
      write_at(piece.choices[static_cast<size_t>(step - 1) % piece.choices.size()], step, out);
    }
  }
}

}  // namespace

std::vector<TimedText> prompt_timeline(std::string_view prompt, int64_t steps) {
  const Sequence sequence = Parser(prompt, steps).run();
  std::set<int64_t> ends = {steps};
  collect_ends(sequence, steps, ends);
  std::vector<TimedText> timeline;
  for (const int64_t end : ends) {
    std::string text;
    write_at(sequence, end, text);
    timeline.push_back({end, std::move(text)});
  }
  return timeline;
}

const std::string& text_at(const std::vector<TimedText>& timeline, int64_t step) {
  for (const TimedText& timed : timeline) {
    if (step <= timed.last_step) return timed.text;
  }
  return timeline.back().text;
}

}  // namespace emulsion::models
