"""Makes tests/golden/images with Pillow, numpy, safetensors and libvips (for JPEG XL and a wide-gamut profile).

Run:  HF_HUB_OFFLINE=1 .venv/bin/python tests/io/make_images.py
"""

import ctypes
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, PngImagePlugin
from safetensors.torch import save_file

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "images"
expected = {}


def picture(width, height):
    """A smooth picture whose corners differ, so that turning and mirroring show."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / (width - 1)
    green = 255 * y / (height - 1)
    blue = 255 * (1 - x / (width - 1)) * (y / (height - 1))
    return np.stack([red, green, blue], 2).round().astype(np.uint8)


def save(image, name, reference=None, **options):
    path = FOLDER / name
    image.save(path, **options)
    decoded = reference if reference is not None else np.asarray(Image.open(path).convert("RGB"))
    expected[name] = torch.from_numpy(np.array(decoded))
    return path


def png16(name, pixels, color_type):
    """Pillow writes no 16-bit RGB; the format is simple enough."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (FOLDER / name).write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    reference = (pixels >> 8).astype(np.uint8)
    if reference.ndim == 2:
        reference = np.repeat(reference[:, :, None], 3, 2)
    expected[name] = torch.from_numpy(np.array(reference[:, :, :3]))


def plain_formats():
    image = Image.fromarray(picture(24, 16))
    save(image, "rgb.png")
    save(image, "rgb.jpg", quality=95, subsampling=0)
    save(image, "rgb.webp", lossless=True)
    save(image, "rgb.avif", quality=95, subsampling="4:4:4")
    save(image, "rgb.tif", compression="tiff_lzw")
    save(image, "rgb.bmp")
    save(image.convert("RGBA"), "opaque32.bmp")
    save(image.quantize(16), "palette.bmp")
    save(image.convert("1"), "bits.bmp")
    save(image.quantize(16), "palette.png")
    save(image.convert("L"), "grey.png")
    save(image.convert("1"), "bits.png")
    save(image.convert("L"), "grey.jpg", quality=95)
    save(image, "interlaced.jpg", quality=95, subsampling=0, progressive=True)


def bmp_with_alpha(rgba):
    """Pillow writes no bitmap with alpha; BITMAPV4HEADER with masks has one."""
    height, width = rgba.shape[:2]
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 108, width, -height, 1, 32, 3, 0, 0, 0, 0, 0, *masks)
    header += bytes(108 - len(header))
    data = rgba[:, :, [2, 1, 0, 3]].tobytes()
    size = 14 + len(header) + len(data)
    start = b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(header))
    path = FOLDER / "rgba.bmp"
    path.write_bytes(start + header + data)
    assert (np.asarray(Image.open(path)) == rgba).all()
    expected["rgba.bmp"] = torch.from_numpy(rgba.copy())


def alpha_formats():
    color = picture(16, 8)
    alpha = np.linspace(0, 255, 16).round().astype(np.uint8)[None].repeat(8, 0)
    rgba = np.dstack([color, alpha])
    image = Image.fromarray(rgba)
    bmp_with_alpha(rgba)
    for name in ("rgba.png", "rgba.webp"):
        image.save(FOLDER / name, **({"lossless": True, "exact": True} if "webp" in name else {}))
        expected[name] = torch.from_numpy(rgba.copy())
    image.convert("LA").save(FOLDER / "grey_alpha.png")
    grey = np.asarray(Image.open(FOLDER / "grey_alpha.png").convert("RGBA"))
    expected["grey_alpha.png"] = torch.from_numpy(grey.copy())
    palette = Image.fromarray(color).quantize(8)
    palette.save(FOLDER / "palette_alpha.png", transparency=0)
    decoded = np.asarray(Image.open(FOLDER / "palette_alpha.png").convert("RGBA"))
    expected["palette_alpha.png"] = torch.from_numpy(decoded.copy())


def orientations():
    upright = picture(24, 16)
    # What a camera stores so that a viewer which obeys EXIF shows `upright`.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(Image.fromarray(np.ascontiguousarray(pixels)), f"orientation{orientation}.jpg", upright,
             quality=95, subsampling=0, exif=exif)


def animations():
    frames = [Image.new("RGB", (12, 8), color) for color in ("red", "blue")]
    first = np.asarray(frames[0])
    save(frames[0], "two_frames.gif", first, save_all=True, append_images=frames[1:])
    save(frames[0], "two_frames.webp", first, save_all=True, append_images=frames[1:], lossless=True)
    save(frames[0], "two_pages.tif", first, save_all=True, append_images=frames[1:])


def vips():
    library = ctypes.CDLL("libvips.so.42")
    library.vips_init(b"make")
    library.vips_image_new_from_file.restype = ctypes.c_void_p
    return library


def wide_gamut(library):
    """Display P3 by the profile that libvips carries; Pillow's LittleCMS gives the expected colours."""
    blob = ctypes.c_void_p()
    assert library.vips_profile_load(b"p3", ctypes.byref(blob), None) == 0
    size = ctypes.c_size_t()
    library.vips_blob_get.restype = ctypes.c_void_p
    data = library.vips_blob_get(blob, ctypes.byref(size))
    profile = ctypes.string_at(data, size.value)
    image = Image.fromarray(picture(16, 8))
    p3 = FOLDER / "p3.icc"
    p3.write_bytes(profile)
    converted = ImageCms.profileToProfile(image, str(p3), ImageCms.createProfile("sRGB"), 0)
    p3.unlink()
    save(image, "p3.png", np.asarray(converted), icc_profile=profile)
    save(image, "bad_profile.png", np.asarray(image), icc_profile=b"not a profile at all")


def jpeg_xl(library):
    image = library.vips_image_new_from_file(str(FOLDER / "rgb.png").encode(), None)
    path = str(FOLDER / "rgb.jxl").encode()
    assert library.vips_jxlsave(ctypes.c_void_p(image), path, b"lossless", 1, None) == 0
    expected["rgb.jxl"] = expected["rgb.png"].clone()


def resizes():
    """Pillow's BICUBIC on noise, the hardest picture for it."""
    generator = np.random.default_rng(1)
    source = generator.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    tensors = {"source": torch.from_numpy(source)}
    for width, height in ((20, 11), (53, 12), (7, 37), (60, 50), (1, 1), (64, 9), (50, 30), (50, 31)):
        resized = Image.fromarray(source).resize((width, height), Image.Resampling.BICUBIC)
        tensors[f"{width}x{height}"] = torch.from_numpy(np.asarray(resized).copy())
    save_file(tensors, FOLDER / "resize.safetensors")


def texts():
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat, caf\xe9\nSteps: 20")
    info.add_itxt("Comment", "猫 😀")
    info.add_text("zipped", "la " * 500, zip=True)
    info.add_itxt("zipped too", "喵" * 300, zip=True)
    Image.new("RGB", (2, 2)).save(FOLDER / "text.png", pnginfo=info)


def reference_safetensors():
    """The test writes the same tensors and expects the same bytes."""
    tensors = {
        "b.half": torch.arange(6).reshape(2, 3).half() / 4,
        "a.half": torch.arange(3).half(),
        "brain": torch.arange(5).bfloat16(),
        "single": torch.arange(4).float() - 1.5,
        "double": torch.arange(2).double(),
        "long": torch.arange(3) - 1,
        "int": torch.arange(2).int(),
        "short": torch.arange(3).short(),
        "char": torch.arange(3).to(torch.int8) - 1,
        "byte": torch.arange(5).to(torch.uint8),
        "flag": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "caf\xe9 \"quoted\"\n": torch.ones(1, 1),
    }
    save_file(tensors, FOLDER / "reference.safetensors", {"format": "pt \xe9"})


FOLDER.mkdir(parents=True, exist_ok=True)
plain_formats()
alpha_formats()
orientations()
animations()
png16("rgb16.png", picture(16, 8).astype(np.uint16) * 257, 2)
png16("grey16.png", np.array([[0, 255, 256, 32768, 65535]], np.uint16), 0)
save(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "cmyk_white.jpg", quality=95)
save(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "cmyk_cyan.jpg", quality=95)
libvips = vips()
wide_gamut(libvips)
jpeg_xl(libvips)
resizes()
texts()
reference_safetensors()
save_file(expected, FOLDER / "expected.safetensors")
