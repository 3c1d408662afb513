#include "generate/sheet.h"

#include <algorithm>

#include "core/error.h"
#include "io/image.h"
#include "io/text_image.h"

namespace emulsion::generate {
namespace {

constexpr int64_t kGap = 6, kLabel = 20;

void paste(Tensor& sheet, const Tensor& picture, int64_t y, int64_t x) {
  const int64_t height = std::min(picture.size(0), sheet.size(0) - y), width = std::min(picture.size(1), sheet.size(1) - x);
  sheet.narrow(0, y, height).narrow(1, x, width).copy_(picture.narrow(0, 0, height).narrow(1, 0, width));
}

}  // namespace

Tensor make_sheet(const std::vector<SheetRow>& rows, int64_t cell) {
  size_t columns = 1;
  for (const SheetRow& row : rows) columns = std::max(columns, row.pictures.size());
  const int64_t row_height = kLabel + kGap + cell + 2 * kGap;
  Tensor sheet = at::full({kGap + static_cast<int64_t>(rows.size()) * row_height,
                           kGap + static_cast<int64_t>(columns) * (cell + kGap), 3}, 255, at::kByte);
  int64_t y = kGap;
  for (const SheetRow& row : rows) {
    paste(sheet, io::text_image(row.label, kLabel), y, kGap);
    int64_t x = kGap;
    for (const Tensor& picture : row.pictures) {
      paste(sheet, io::resize_image(picture, cell, cell), y + kLabel + kGap, x);
      x += cell + kGap;
    }
    y += row_height;
  }
  return sheet;
}

}  // namespace emulsion::generate
