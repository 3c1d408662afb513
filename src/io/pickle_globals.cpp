#include "io/pickle_globals.h"

#include <algorithm>
#include <span>

namespace emulsion::io {
namespace {

using at::ScalarType;
using Role = PickleRole;

// The names of the storages come a second time as torch.cuda.*, where old versions put what lay on
// a GPU. Their dtypes: torch/storage.py, _dtype_to_storage_type_map.
constexpr PickleGlobal kStorages[] = {
    {"torch", "DoubleStorage", Role::storage, ScalarType::Double},
    {"torch", "FloatStorage", Role::storage, ScalarType::Float},
    {"torch", "HalfStorage", Role::storage, ScalarType::Half},
    {"torch", "BFloat16Storage", Role::storage, ScalarType::BFloat16},
    {"torch", "LongStorage", Role::storage, ScalarType::Long},
    {"torch", "IntStorage", Role::storage, ScalarType::Int},
    {"torch", "ShortStorage", Role::storage, ScalarType::Short},
    {"torch", "CharStorage", Role::storage, ScalarType::Char},
    {"torch", "ByteStorage", Role::storage, ScalarType::Byte},
    {"torch", "BoolStorage", Role::storage, ScalarType::Bool},
    {"torch", "ComplexFloatStorage", Role::storage, ScalarType::ComplexFloat},
    {"torch", "ComplexDoubleStorage", Role::storage, ScalarType::ComplexDouble},
};

constexpr PickleGlobal kGlobals[] = {
    {"collections", "OrderedDict", Role::dict},
    {"collections", "defaultdict", Role::dict},
    {"collections", "Counter", Role::dict},
    {"builtins", "dict", Role::dict},
    {"pytorch_lightning.utilities.parsing", "AttributeDict", Role::dict},
    {"lightning_fabric.utilities.data", "AttributeDict", Role::dict},
    {"lightning.fabric.utilities.data", "AttributeDict", Role::dict},
    {"torch.nn.modules.container", "ParameterDict", Role::parameter_dict},

    {"torch", "Size", Role::size},
    {"torch._utils", "_rebuild_tensor", Role::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor_v2", Role::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor_v3", Role::rebuild_tensor_v3},
    {"torch._utils", "_rebuild_parameter", Role::rebuild_parameter},
    {"torch._utils", "_rebuild_parameter_with_state", Role::rebuild_parameter},

    // Not of one dtype: the tensor that views it says which.
    {"torch.storage", "UntypedStorage", Role::storage, ScalarType::Byte},
    {"torch", "UntypedStorage", Role::storage, ScalarType::Byte},

    {"torch", "float64", Role::dtype, ScalarType::Double},
    {"torch", "float32", Role::dtype, ScalarType::Float},
    {"torch", "float16", Role::dtype, ScalarType::Half},
    {"torch", "bfloat16", Role::dtype, ScalarType::BFloat16},
    {"torch", "float8_e4m3fn", Role::dtype, ScalarType::Float8_e4m3fn},
    {"torch", "float8_e5m2", Role::dtype, ScalarType::Float8_e5m2},
    {"torch", "float8_e4m3fnuz", Role::dtype, ScalarType::Float8_e4m3fnuz},
    {"torch", "float8_e5m2fnuz", Role::dtype, ScalarType::Float8_e5m2fnuz},
    {"torch", "float8_e8m0fnu", Role::dtype, ScalarType::Float8_e8m0fnu},
    {"torch", "int64", Role::dtype, ScalarType::Long},
    {"torch", "int32", Role::dtype, ScalarType::Int},
    {"torch", "int16", Role::dtype, ScalarType::Short},
    {"torch", "int8", Role::dtype, ScalarType::Char},
    {"torch", "uint64", Role::dtype, ScalarType::UInt64},
    {"torch", "uint32", Role::dtype, ScalarType::UInt32},
    {"torch", "uint16", Role::dtype, ScalarType::UInt16},
    {"torch", "uint8", Role::dtype, ScalarType::Byte},
    {"torch", "bool", Role::dtype, ScalarType::Bool},
    {"torch", "complex32", Role::dtype, ScalarType::ComplexHalf},
    {"torch", "complex64", Role::dtype, ScalarType::ComplexFloat},
    {"torch", "complex128", Role::dtype, ScalarType::ComplexDouble},

    // What trainers leave beside the weights.
    {"torch", "device", Role::opaque},
    {"builtins", "set", Role::opaque},
    {"builtins", "frozenset", Role::opaque},
    {"builtins", "list", Role::opaque},
    {"builtins", "tuple", Role::opaque},
    {"builtins", "int", Role::opaque},
    {"builtins", "float", Role::opaque},
    {"builtins", "bool", Role::opaque},
    {"builtins", "str", Role::opaque},
    {"builtins", "complex", Role::opaque},
    {"builtins", "bytearray", Role::opaque},
    {"_codecs", "encode", Role::opaque},
    {"typing", "Any", Role::opaque},
    {"argparse", "Namespace", Role::opaque},
    {"pathlib", "PosixPath", Role::opaque},
    {"pathlib", "WindowsPath", Role::opaque},
    {"numpy", "dtype", Role::opaque},
    {"numpy", "ndarray", Role::opaque},
    {"numpy.core.multiarray", "scalar", Role::opaque},
    {"numpy.core.multiarray", "_reconstruct", Role::opaque},
    {"numpy._core.multiarray", "scalar", Role::opaque},
    {"numpy._core.multiarray", "_reconstruct", Role::opaque},
    {"omegaconf.dictconfig", "DictConfig", Role::opaque},
    {"omegaconf.listconfig", "ListConfig", Role::opaque},
    {"omegaconf.base", "ContainerMetadata", Role::opaque},
    {"omegaconf.base", "Metadata", Role::opaque},
    {"omegaconf.nodes", "AnyNode", Role::opaque},
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", Role::opaque},
    {"pytorch_lightning.callbacks.early_stopping", "EarlyStopping", Role::opaque},
    {"lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint", Role::opaque},
    {"lightning.pytorch.callbacks.early_stopping", "EarlyStopping", Role::opaque},
};

const PickleGlobal* find_row(std::span<const PickleGlobal> rows, std::string_view module,
                             std::string_view name) {
  const auto row = std::ranges::find_if(
      rows, [&](const PickleGlobal& g) { return g.module == module && g.name == name; });
  return row == rows.end() ? nullptr : &*row;
}

}  // namespace

const PickleGlobal* find_pickle_global(std::string_view module, std::string_view name) {
  if (module == "__builtin__") module = "builtins";
  if (const PickleGlobal* storage =
          find_row(kStorages, module == "torch.cuda" ? "torch" : module, name)) {
    return storage;
  }
  return find_row(kGlobals, module, name);
}

}  // namespace emulsion::io
