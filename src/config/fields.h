// Binds plain structs to value trees through their `fields()`.
//
// A config struct names its fields once; reading, writing, schema and --set are all made from that:
//
//   struct LoraConfig {
//     static constexpr const char* kType = "lora";           // only where it is a variant's
//     alternative static constexpr const char* kDoc = "Low-rank update.";  // optional, with kType
//     int64_t rank = 16;
//     template <class V>
//     void fields(V& v) {
//       v("rank", rank, "Rank of the update.").min(1).max(1024);
//     }
//   };
//
// Field types: bool, int64_t, double, std::string, an enum class with `enum_names`
// (config/enum_names.h), a struct with fields(), std::optional, std::vector, std::map<std::string,
// ...> and std::variant of structs with kType. A default is what the struct that holds the field
// has when default-constructed. Headers with config structs need not include this one: `fields` is
// a template.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "config/enum_names.h"
#include "config/node.h"
#include "config/schema.h"

namespace emulsion::config {

/// The three things that can be done with a value of one type.
struct Codec {
  Schema (*describe)(const void* value);        // `value` gives the defaults
  Node (*write)(const void* value);             //
  void (*read)(const Node& node, void* value);  // `node` was resolved against the schema
};

template <class T>
struct Coder;

template <class T>
inline constexpr Codec kCodec = {
    [](const void* value) { return Coder<T>::describe(*static_cast<const T*>(value)); },
    [](const void* value) { return Coder<T>::write(*static_cast<const T*>(value)); },
    [](const Node& node, void* value) { Coder<T>::read(node, *static_cast<T*>(value)); }};

/// The `V` of every `fields(V&)`: describes, writes or reads each field that it is shown.
class Visitor {
 public:
  static Visitor describing(std::vector<Field>* fields) { return {fields, nullptr, nullptr}; }
  static Visitor writing(Node* table) { return {nullptr, table, nullptr}; }
  static Visitor reading(const Node* table) { return {nullptr, nullptr, table}; }

  template <class T>
  FieldHandle operator()(std::string_view name, T& value, std::string_view doc) {
    return visit(name, &value, kCodec<T>, doc);
  }

 private:
  Visitor(std::vector<Field>* fields, Node* output, const Node* input)
      : fields_(fields), output_(output), input_(input) {}

  FieldHandle visit(std::string_view name, void* value, const Codec& codec, std::string_view doc);

  std::vector<Field>* fields_;
  Node* output_;
  const Node* input_;
};

template <class T>
concept ConfigStruct = std::is_class_v<T> && requires(T value, Visitor& v) {
  value.fields(v);
};

namespace detail {

Schema scalar_schema(Schema::Kind kind);
Schema enum_schema(std::vector<std::string> names);
/// `has_default`: the element's defaults are the field's own. Otherwise a variant must say its
/// type.
Schema element_schema(Schema::Kind kind, Schema element, bool has_default);

template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

template <class T>
std::vector<Field> describe_fields(const T& value) {
  std::vector<Field> fields;
  Visitor visitor = Visitor::describing(&fields);
  const_cast<T&>(value).fields(visitor);  // a describing or writing visitor only looks
  return fields;
}

template <class T>
void write_fields(const T& value, Node* table) {
  Visitor visitor = Visitor::writing(table);
  const_cast<T&>(value).fields(visitor);
}

template <class T>
void read_fields(const Node& table, T& value) {
  Visitor visitor = Visitor::reading(&table);
  value.fields(visitor);
}

template <class T>
std::string alternative_doc() {
  if constexpr (requires { T::kDoc; }) {
    return T::kDoc;
  } else {
    return "";
  }
}

}  // namespace detail

template <class T>
struct Coder {
  static_assert(
      ConfigStruct<T>,
      "a config field is a bool, int64_t, double, std::string, an enum with enum_names, a struct "
      "with fields(), or an optional, vector, map or variant of those");
  static Schema describe(const T& value) {
    Schema schema;
    schema.fields = detail::describe_fields(value);
    return schema;
  }
  static Node write(const T& value) {
    Node table = Node::table();
    detail::write_fields(value, &table);
    return table;
  }
  static void read(const Node& node, T& value) { detail::read_fields(node, value); }
};

template <>
struct Coder<bool> {
  static Schema describe(bool) { return detail::scalar_schema(Schema::Kind::boolean); }
  static Node write(bool value) { return Node::of(value); }
  static void read(const Node& node, bool& value) { value = node.boolean; }
};

template <>
struct Coder<int64_t> {
  static Schema describe(int64_t) { return detail::scalar_schema(Schema::Kind::integer); }
  static Node write(int64_t value) { return Node::of(value); }
  static void read(const Node& node, int64_t& value) { value = node.integer; }
};

template <>
struct Coder<double> {
  static Schema describe(double) { return detail::scalar_schema(Schema::Kind::number); }
  static Node write(double value) { return Node::of(value); }
  static void read(const Node& node, double& value) { value = node.number; }
};

template <>
struct Coder<std::string> {
  static Schema describe(const std::string&) { return detail::scalar_schema(Schema::Kind::string); }
  static Node write(const std::string& value) { return Node::of(value); }
  static void read(const Node& node, std::string& value) { value = node.string; }
};

template <NamedEnum E>
struct Coder<E> {
  static Schema describe(E) { return detail::enum_schema(names_of<E>()); }
  static Node write(E value) { return Node::of(std::string(name_of(value))); }
  static void read(const Node& node, E& value) { value = value_of<E>(node.string); }
};

template <class T>
struct Coder<std::optional<T>> {
  static_assert(!detail::kIsOptional<T>, "an optional of an optional cannot be written as TOML");
  static Schema describe(const std::optional<T>& value) {
    return detail::element_schema(Schema::Kind::optional, Coder<T>::describe(value.value_or(T{})),
                                  value.has_value());
  }
  static Node write(const std::optional<T>& value) {
    return value ? Coder<T>::write(*value) : Node{};
  }
  static void read(const Node& node, std::optional<T>& value) {
    if (node.kind == Node::Kind::null) return value.reset();
    if (!value) value.emplace();
    Coder<T>::read(node, *value);
  }
};

template <class T>
struct Coder<std::vector<T>> {
  static_assert(!detail::kIsOptional<T>, "a list of optionals cannot be written as TOML");
  static Schema describe(const std::vector<T>&) {
    return detail::element_schema(Schema::Kind::list, Coder<T>::describe(T{}), false);
  }
  static Node write(const std::vector<T>& values) {
    Node list = Node::list();
    for (const auto& value : values) list.items.push_back(Coder<T>::write(value));
    return list;
  }
  static void read(const Node& node, std::vector<T>& values) {
    values.clear();
    for (const Node& item : node.items) {
      T value{};
      Coder<T>::read(item, value);
      values.push_back(std::move(value));
    }
  }
};

template <class T>
struct Coder<std::map<std::string, T>> {
  static_assert(!detail::kIsOptional<T>, "a map of optionals cannot be written as TOML");
  static Schema describe(const std::map<std::string, T>&) {
    return detail::element_schema(Schema::Kind::map, Coder<T>::describe(T{}), false);
  }
  static Node write(const std::map<std::string, T>& values) {
    Node table = Node::table();
    for (const auto& [key, value] : values) table.set(key, Coder<T>::write(value));
    return table;
  }
  static void read(const Node& node, std::map<std::string, T>& values) {
    values.clear();
    for (const Node& item : node.items) Coder<T>::read(item, values[item.key]);
  }
};

template <class... Ts>
struct Coder<std::variant<Ts...>> {
  using Variant = std::variant<Ts...>;
  static Schema describe(const Variant& value) {
    Schema schema;
    schema.kind = Schema::Kind::variant;
    (schema.alternatives.push_back(describe_alternative<Ts>(value)), ...);
    schema.default_type = type_of(value);
    return schema;
  }
  static Node write(const Variant& value) {
    Node table = Node::table();
    table.set("type", Node::of(std::string(type_of(value))));
    std::visit([&](const auto& held) { detail::write_fields(held, &table); }, value);
    return table;
  }
  static void read(const Node& node, Variant& value) {
    if (const Node* type = node.find("type")) (hold<Ts>(type->string, value), ...);
    std::visit([&](auto& held) { detail::read_fields(node, held); }, value);
  }

 private:
  static const char* type_of(const Variant& value) {
    return std::visit([](const auto& held) { return std::decay_t<decltype(held)>::kType; }, value);
  }
  template <class T>
  static Alternative describe_alternative(const Variant& value) {
    const T* held = std::get_if<T>(&value);
    return {T::kType, detail::alternative_doc<T>(), detail::describe_fields(held ? *held : T{})};
  }
  template <class T>
  static void hold(std::string_view type, Variant& value) {
    if (type == T::kType && !std::holds_alternative<T>(value)) value.template emplace<T>();
  }
};

}  // namespace emulsion::config
