// What every adapter kind has: the leaf that it acts on, its trained tensors, and how strongly it acts.
#pragma once

#include <string>
#include <vector>

#include "nn/leaf.h"

namespace emulsion::adapters {

class Adapter : public nn::LeafAdapter {
 public:
  explicit Adapter(const nn::Leaf& leaf) : leaf_(leaf) {}

  /// A tensor that trains, by the end of its name in kohya's and LyCORIS' files: "lora_down.weight".
  struct Part {
    std::string name;
    Tensor* tensor;
  };
  virtual std::vector<Part> parts() = 0;
  /// What such files say besides: "alpha", "on_input".
  virtual NamedTensors constants() const = 0;

  NamedTensors params() const final {
    NamedTensors all;
    for (const Part& part : const_cast<Adapter*>(this)->parts()) all.emplace_back(part.name, *part.tensor);
    return all;
  }

  double strength = 1;

 protected:
  const nn::Leaf& leaf_;
};

}  // namespace emulsion::adapters
