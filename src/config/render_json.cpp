// The schema of a run file as JSON Schema, draft 2020-12.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "config/render.h"

namespace emulsion::config {
namespace {

using Json = nlohmann::ordered_json;
using Kind = Schema::Kind;

Json type_json(const Schema& schema);

// Null where JSON has no such value (infinity), and for what is not set.
Json value_json(const Node& node) {
  Json json;
  switch (node.kind) {
    case Node::Kind::null:
      return json;
    case Node::Kind::boolean:
      return node.boolean;
    case Node::Kind::integer:
      return node.integer;
    case Node::Kind::number:
      return std::isfinite(node.number) ? Json(node.number) : json;
    case Node::Kind::string:
    case Node::Kind::date:
      return node.string;
    case Node::Kind::list:
      json = Json::array();
      for (const Node& item : node.items) json.push_back(value_json(item));
      return json;
    case Node::Kind::table:
      json = Json::object();
      for (const Node& item : node.items) {
        if (item.kind != Node::Kind::null) json[item.key] = value_json(item);
      }
      return json;
  }
  return json;
}

Json limit_json(double value) {
  const bool whole = std::trunc(value) == value && std::abs(value) < 1e15;
  return whole ? Json(static_cast<int64_t>(value)) : Json(value);
}

void add_limits(const Schema& schema, Json& json) {
  if (schema.min) json["minimum"] = limit_json(*schema.min);
  if (schema.above) json["exclusiveMinimum"] = limit_json(*schema.above);
  if (schema.max) json["maximum"] = limit_json(*schema.max);
  if (schema.below) json["exclusiveMaximum"] = limit_json(*schema.below);
  if (!schema.unit.empty()) json["x-unit"] = schema.unit;
  for (const std::string& choice : schema.choices) {
    json["enum"].push_back(schema.kind == Kind::integer ? Json(std::stoll(choice)) : Json(choice));
  }
}

bool is_struct(const Schema& type) {
  return type.kind == Kind::table || type.kind == Kind::variant;
}

Json field_json(const Field& field) {
  Json json = type_json(field.type);
  json["description"] = field.note.empty() ? field.doc : field.doc + ' ' + field.note;
  // The fields of a table have their own defaults.
  if (is_struct(field.type) || field.required) return json;
  const Json value = value_json(field.default_value);
  if (!value.is_null()) json["default"] = value;
  return json;
}

Json object_json(const std::vector<Field>& fields) {
  Json json = {{"type", "object"}, {"properties", Json::object()}, {"additionalProperties", false}};
  for (const Field& field : fields) {
    json["properties"][field.name] = field_json(field);
    if (field.required) json["required"].push_back(field.name);
  }
  return json;
}

Json alternative_json(const Alternative& alternative, bool is_default) {
  const Json fields = object_json(alternative.fields);
  Json json = {{"title", alternative.type}, {"type", "object"}};
  if (!alternative.doc.empty()) json["description"] = alternative.doc;
  json["properties"]["type"] = {{"const", alternative.type}};
  if (is_default) json["properties"]["type"]["default"] = alternative.type;
  json["properties"].update(fields["properties"]);
  json["additionalProperties"] = false;
  json["required"] = fields.value("required", Json::array());
  if (!is_default) json["required"].insert(json["required"].begin(), "type");
  return json;
}

Json optional_json(const Schema& element) {
  const bool text = element.kind == Kind::string || element.kind == Kind::choice;
  if (text) return type_json(element);
  return {{"anyOf", {type_json(element), {{"const", "none"}}}}};
}

Json type_json(const Schema& schema) {
  Json json;
  switch (schema.kind) {
    case Kind::boolean:
      json["type"] = "boolean";
      break;
    case Kind::integer:
      json["type"] = "integer";
      break;
    case Kind::number:
      json["type"] = "number";
      break;
    case Kind::string:
    case Kind::choice:
      json["type"] = "string";
      break;
    case Kind::optional:
      return optional_json(schema.element.front());
    case Kind::list:
      return {{"type", "array"}, {"items", type_json(schema.element.front())}};
    case Kind::map:
      return {{"type", "object"}, {"additionalProperties", type_json(schema.element.front())}};
    case Kind::table:
      return object_json(schema.fields);
    case Kind::variant:
      for (const Alternative& alternative : schema.alternatives) {
        const bool is_default = alternative.type == schema.default_type;
        json["oneOf"].push_back(alternative_json(alternative, is_default));
      }
      return json;
  }
  add_limits(schema, json);
  return json;
}

}  // namespace

std::string schema_json(const Schema& schema) {
  Json json = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}};
  json.update(type_json(schema));
  return json.dump(2) + '\n';
}

}  // namespace emulsion::config
