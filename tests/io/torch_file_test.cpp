// Files that the real torch.save has written (tools/golden/torch_files.py), read without Python.
#include "core/error.h"
#include "io/safetensors.h"
#include "io/tensor_file.h"
#include "support/support.h"

namespace emulsion::io {
namespace {

namespace fs = std::filesystem;
using test::golden;

/// As the golden script writes it: "float32 [2, 3]".
std::string describe(const Tensor& tensor) {
  static const std::map<at::ScalarType, std::string> kNames = {
      {at::kDouble, "float64"},
      {at::kFloat, "float32"},
      {at::kHalf, "float16"},
      {at::kBFloat16, "bfloat16"},
      {at::kLong, "int64"},
      {at::kInt, "int32"},
      {at::kShort, "int16"},
      {at::kChar, "int8"},
      {at::kByte, "uint8"},
      {at::kBool, "bool"},
      {at::kComplexFloat, "complex64"},
      {at::kComplexDouble, "complex128"},
      {at::kComplexHalf, "complex32"},
      {at::kUInt16, "uint16"},
      {at::kUInt32, "uint32"},
      {at::kUInt64, "uint64"},
      {at::kFloat8_e4m3fn, "float8_e4m3fn"},
      {at::kFloat8_e5m2, "float8_e5m2"},
      {at::kFloat8_e4m3fnuz, "float8_e4m3fnuz"},
      {at::kFloat8_e5m2fnuz, "float8_e5m2fnuz"},
      {at::kFloat8_e8m0fnu, "float8_e8m0fnu"}};
  const auto name = kNames.find(tensor.scalar_type());
  return fmt::format("{} [{}]", name == kNames.end() ? "?" : name->second,
                     fmt::join(tensor.sizes(), ", "));
}

Tensor raw_bytes(const Tensor& tensor) {
  if (tensor.numel() == 0) return at::empty({0}, at::kByte);
  return tensor.contiguous().reshape({-1}).view(at::kByte);
}

/// What lies under "<file>/" in a map of the golden file, without that.
std::map<std::string, std::string> below(const std::map<std::string, std::string>& all,
                                         const std::string& prefix) {
  std::map<std::string, std::string> found;
  for (const auto& [key, value] : all) {
    if (key.starts_with(prefix)) found[key.substr(prefix.size())] = value;
  }
  return found;
}

std::vector<fs::path> files() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(golden("torch"))) found.push_back(entry.path());
  std::ranges::sort(found);
  return found;
}

TEST(TorchFileTest, HasEveryTensorAndValueThatWasSaved) {
  const TensorFile expected = open_tensor_file(golden("torch_files.safetensors"));
  ASSERT_EQ(files().size(), 21u);
  for (const fs::path& path : files()) {
    SCOPED_TRACE(path.filename().string());
    const TensorFile file = open_tensor_file(path);
    const std::string prefix = path.filename().string() + "/";
    const auto described = below(expected.metadata(), prefix);
    EXPECT_EQ(file.entries().size(), described.size());
    for (const auto& [name, description] : described) {
      ASSERT_TRUE(file.contains(name)) << name;
      const Tensor tensor = file.tensor(name);
      EXPECT_EQ(describe(tensor), description) << name;
      EXPECT_TRUE(at::equal(raw_bytes(tensor), expected.tensor(prefix + name))) << name;
    }
    EXPECT_EQ(file.metadata(), below(expected.metadata(), "value " + prefix));
    EXPECT_EQ(file.format(),
              path.string().find("legacy") == std::string::npos ? "torch zip" : "torch legacy");
  }
}

TEST(TorchFileTest, TensorsOfOneStorageShareMemoryWithTheFile) {
  const TensorFile file = open_tensor_file(golden("torch/views.zip.pt"));
  const Tensor base = file.tensor("base");
  EXPECT_EQ(file.tensor("transposed").data_ptr(), base.data_ptr());
  EXPECT_EQ(file.tensor("column").data_ptr(), base.data_ptr<float>() + 1);
  EXPECT_EQ(file.find("expanded")->bytes(), 3 * 6 * 4u);
  EXPECT_EQ(file.find("expanded")->end - file.find("expanded")->begin, 6 * 4u);
  // A private map: the other views see the write, the file does not.
  base[2][0].fill_(7);
  EXPECT_EQ(file.tensor("row")[0].item<float>(), 7);
  EXPECT_NE(open_tensor_file(golden("torch/views.zip.pt")).tensor("row")[0].item<float>(), 7);
}

TEST(TorchFileTest, TensorsKeepTheirStrides) {
  for (const char* name : {"torch/views.zip.pt", "torch/views.legacy.pt"}) {
    const TensorFile file = open_tensor_file(golden(name));
    EXPECT_EQ(file.tensor("transposed").strides(), at::IntArrayRef({1, 6}));
    EXPECT_EQ(file.tensor("expanded").strides(), at::IntArrayRef({0, 1}));
    EXPECT_TRUE(file.tensor("channels_last").is_contiguous(at::MemoryFormat::ChannelsLast));
  }
}

TEST(TorchFileTest, EntriesStandInTheOrderOfTheData) {
  const TensorFile file = open_tensor_file(golden("torch/lightning.2.zip.ckpt"));
  EXPECT_TRUE(std::ranges::is_sorted(file.entries(), {}, &TensorFile::Entry::begin));
}

TEST(TorchFileTest, ATruncatedFileIsRefusedAtEveryLength) {
  test::TempFolder folder;
  for (const char* name : {"torch/hypernetwork.zip.pt", "torch/hypernetwork.legacy.pt"}) {
    const auto size = fs::file_size(golden(name));
    fs::copy_file(golden(name), folder / "cut.pt", fs::copy_options::overwrite_existing);
    for (auto length = size - 1; length > 24; length -= std::min<size_t>(length, 13)) {
      fs::resize_file(folder / "cut.pt", length);
      const std::string message = test::error_message([&] { open_tensor_file(folder / "cut.pt"); });
      EXPECT_NE(message.find("cut off"), std::string::npos) << length << ": " << message;
    }
  }
}

}  // namespace
}  // namespace emulsion::io
