"""Drawing styles that a filter makes of any picture: pictures that differ in nothing but how they are drawn.

A model that sees every subject in many of them learns to keep "what" and "how" apart, which two sets of emoji alone do not teach it:
each draws its subjects in shapes of its own, so that learning every picture by heart is as good. None looks like the style that is held out.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

LIGHT = np.array([-0.5, -0.6, 0.62])  # towards the light: x, y (downwards), z
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def blurred(values, radius):
    return gaussian_filter(values, (radius, radius, 0), mode="nearest")


def luminance(colours):
    return (colours @ LUMINANCE)[..., None]


def strokes(colours, opacity, width):
    """How much of a drawn line there is, [64, 64, 1] in [0, 1]: where brightness or the outline changes."""
    shown = luminance(colours) * opacity + 1.4 * (1 - opacity)
    down, across = np.gradient(gaussian_filter(shown[..., 0], width))
    return np.clip(5 * np.hypot(down, across) - 0.15, 0, 1)[..., None]


def saturated(colours, factor):
    grey = luminance(colours)
    return grey + factor * (colours - grey)


def grey(colours, opacity):
    return luminance(colours).repeat(3, -1), opacity


def sketch(colours, opacity):
    return 1 - 0.85 * strokes(colours, opacity, 0.7).repeat(3, -1), opacity


def pixel(colours, opacity):
    side = 4
    mean = lambda x: x.reshape(64 // side, side, 64 // side, side, -1).mean((1, 3)).repeat(side, 0).repeat(side, 1)
    cover = mean(opacity)
    return mean(colours * opacity) / np.maximum(cover, 1e-3), (cover > 0.4).astype(cover.dtype)


def poster(colours, opacity):
    flat = np.round(2 * np.clip(saturated(blurred(colours, 0.8), 1.5), 0, 1)) / 2
    outline = np.clip(4 * gaussian_filter(opacity[..., 0], 1.6) - 0.3, 0, 1)[..., None]
    return flat * np.clip(3 * gaussian_filter(opacity[..., 0], 1.2) - 1.6, 0, 1)[..., None], np.maximum(opacity, outline)


def pastel(colours, opacity):
    return 0.45 * saturated(colours, 0.8) + 0.55, opacity


def neon(colours, opacity):
    glow = np.maximum(saturated(colours, 2.5), 0.15)
    return 0.12 * colours + 1.1 * strokes(colours, opacity, 0.8) * glow / glow.max(-1, keepdims=True), opacity


def clay(colours, opacity):
    """Lit from the upper left, as if every part were a little swollen."""
    height = sum(gaussian_filter(opacity[..., 0], r) * r for r in (1.5, 3.0, 5.0)) + 2 * gaussian_filter(luminance(colours)[..., 0], 1.5)
    down, across = np.gradient(height)
    normal = np.stack([-across, -down, np.full_like(height, 0.9)], -1)
    light = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)) @ (LIGHT / np.linalg.norm(LIGHT))
    return blurred(colours, 0.8) * (0.45 + 0.75 * np.clip(light, 0, 1))[..., None], opacity


def blueprint(colours, opacity):
    lines = strokes(colours, opacity, 0.7)
    return np.array([0.08, 0.25, 0.62]) + lines * (np.array([0.95, 0.97, 1.0]) - np.array([0.08, 0.25, 0.62])), opacity


FILTERS = {filter_.__name__: filter_ for filter_ in (grey, sketch, pixel, poster, pastel, neon, clay, blueprint)}


def derived(image, style):
    """The picture (RGBA, 64 x 64) as the filter `style` draws it."""
    values = np.asarray(image.convert("RGBa").convert("RGBA"), dtype=np.float64) / 255  # no colour where nothing is to be seen
    opacity = values[..., 3:]
    filled = np.where(opacity > 0, values[..., :3], 1.0)
    drawn = np.concatenate(FILTERS[style](filled, opacity), axis=-1)
    return Image.fromarray(np.round(255 * np.clip(drawn, 0, 1)).astype(np.uint8), "RGBA")
