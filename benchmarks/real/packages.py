"""The packages that free pictures come from: name, licence, and what kind of picture is where."""

from __future__ import annotations

from dataclasses import dataclass

PHOTOGRAPH, DRAWING, ARTWORK = "photograph", "drawing", "artwork"
DOCUMENT, POSTER, PIXEL_ART, NIGHT, HIGH_KEY = "document", "poster", "pixel art", "night", "high-key"
KINDS = (PHOTOGRAPH, DRAWING, ARTWORK, DOCUMENT, POSTER, PIXEL_ART, NIGHT, HIGH_KEY)


@dataclass(frozen=True)
class Rule:
    """Pictures of a package. pattern: of paths in it, as fnmatch has them; kind: None leaves them out.

    named: whether the source tells what is drawn. most: so many at most, chosen by hash.
    """

    pattern: str
    kind: str | None
    named: bool = False
    most: int | None = None


@dataclass(frozen=True)
class Package:
    """A package of pictures. The first rule that a path matches says what it is; without one it is left out.

    held_out: the whole set is one hand's style, kept for tests of another hand.
    """

    name: str
    registry: str
    licence: str
    rules: tuple[Rule, ...]
    held_out: bool = False


def _photographs(*stems: str) -> tuple[Rule, ...]:
    """Of a set of wallpapers these are photographs, the others artwork."""
    chosen = tuple(Rule(f"*/{stem}", PHOTOGRAPH) for stem in stems)
    return (*chosen, Rule("*/wallpapers/*", ARTWORK), Rule("*/backgrounds/*", ARTWORK))


_PLASMA = ("FallenLeaf", "Path", "DarkestHour", "Volna", "summer_1am", "EveningGlow", "Grey", "Kite")
_PLASMA += ("ColorfulCups", "OneStandsOut", "ColdRipple", "Shell", "BytheWater")
_LXQT = ("flowers.png", "fog.jpg", "after-the-rain.jpg", "Butterfly-*", "Valendas.png", "appleflower.png")
_LXQT += ("beam.png", "butterfly.png", "cloud.png", "drop.png", "this-is-not-windows.jpg")
_SKIMAGE = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
_GCOMPRIS = ("erase", "explore_farm_animals", "explore_monuments", "explore_world_animals")
_GCOMPRIS += ("explore_world_music", "categorization")
# No thing of which one would say its name
_NAMELESS = (
    "shapes/*",
    "special/*",
    "signs_and_symbols/flags/*",
    "recreation/games/cards/*",
    "computer/icons/*",
)

ICONS = "@iconify-json/"
"""Scope of packages that hold a set of drawings in one file."""
_ICON_SETS = {
    "noto-v1": "Apache-2.0",
    "fluent-emoji-flat": "MIT",
    "fxemoji": "Apache-2.0",
    "emojione": "CC-BY-4.0",
    "emojione-v1": "CC-BY-SA-4.0",
    "streamline-emojis": "CC-BY-4.0",
}

PACKAGES = (
    Package(
        "gcompris-qt-data",
        "debian",
        "GPL-3+; pictures CC-BY-SA, CC-BY, CC0-1.0 or public domain",
        (
            *(Rule(f"*/{name}.rcc.d/*", PHOTOGRAPH) for name in _GCOMPRIS),
            Rule("*/lang.rcc.d/*", DRAWING),
        ),
    ),
    Package(
        "plasma-workspace-wallpapers",
        "debian",
        "GPL-2+",
        (
            Rule("*/screenshot.*", None),
            *(Rule(f"*/{name}/contents/images/*", PHOTOGRAPH) for name in _PLASMA),
            Rule("*/contents/images*/*", ARTWORK),
        ),
    ),
    Package("mate-backgrounds", "debian", "GPL-2+, CC-BY-SA-4.0", _photographs("nature/*")),
    Package(
        "lomiri-wallpapers-16.04",
        "debian",
        "CC-BY-4.0, CC-BY-SA, CC0-1.0",
        (Rule("*/analogpattern*", ARTWORK), Rule("*/umang*", ARTWORK), Rule("*/backgrounds/*", PHOTOGRAPH)),
    ),
    Package("lomiri-wallpapers-20.04", "debian", "CC-BY-4.0, CC-BY-SA, CC0-1.0", _photographs("Kleiber*")),
    Package("lxqt-themes", "debian", "LGPL-2.1+, LGPL-3, CC-BY-SA-3.0", _photographs(*_LXQT)),
    Package(
        "sddm-theme-maldives",
        "debian",
        "MIT, CC-BY-3.0, CC-BY-SA-3.0",
        (Rule("*/background.jpg", PHOTOGRAPH),),
    ),
    Package("digikam-data", "debian", "GPL-2+", (Rule("*/body-background.jpg", PHOTOGRAPH),)),
    Package(
        "python3-skimage",
        "debian",
        "BSD-3-Clause; pictures CC0-1.0 or public domain",
        (
            *(Rule(f"*/data/{name}", PHOTOGRAPH) for name in _SKIMAGE),
            Rule("*/data/hubble_deep_field.jpg", NIGHT),
            Rule("*/data/page.png", DOCUMENT),
            Rule("*/data/text.png", DOCUMENT),
        ),
    ),
    Package("gnome-backgrounds", "debian", "CC-BY-SA-3.0", (Rule("*.webp", ARTWORK),)),
    Package("ukui-wallpapers", "debian", "CC-BY-SA-3.0", _photographs()),
    Package("desktop-base", "debian", "GPL-2+, CC-BY-SA-3.0", (Rule("*/grub-16x9.png", ARTWORK),)),
    Package("xfdesktop4-data", "debian", "GPL-2+", _photographs()),
    Package("mypaint-data-extras", "debian", "CC0-1.0, public domain", (Rule("*/backgrounds/*", HIGH_KEY),)),
    Package(
        "stellarium-data",
        "debian",
        "GPL-2+; pictures CC-BY-3.0, CC-BY-SA-3.0, Free Art License or free to use",
        (
            Rule("*/nebulae/default/*.png", NIGHT),
            Rule("*/skycultures/*.png", DRAWING, most=200),
        ),
    ),
    Package(
        "wesnoth-1.16-data",
        "debian",
        "GPL-2+, CC-BY-SA-4.0",
        (
            Rule("*/images/units/*.png", PIXEL_ART, most=400),
            Rule("*/portraits/*", DRAWING, most=200),
            Rule("*/story/*", ARTWORK),
        ),
    ),
    Package("pingus-data", "debian", "GPL-2+", (Rule("*/pingus/data/images/*", PIXEL_ART, most=200),)),
    Package(
        "openclipart-png",
        "debian",
        "public domain",
        (
            Rule("*/png/shapes/stars/*", None),
            *(Rule(f"*/png/{folder}", DRAWING, most=100) for folder in _NAMELESS),
            Rule("*/openclipart/png/*", DRAWING, named=True),
        ),
    ),
    # Titles and key words of openclipart-png's pictures
    Package("openclipart-svg", "debian", "public domain", ()),
    Package("tuxpaint-stamps-default", "debian", "GPL-2", (Rule("*/stamps/*", DRAWING, named=True),)),
    Package(
        "emoji-datasource-google",
        "npm",
        "MIT; pictures (Noto Emoji) Apache-2.0",
        (Rule("*/img/google/64/*", DRAWING, named=True),),
    ),
    Package(
        "emoji-datasource-twitter",
        "npm",
        "MIT; pictures (Twemoji) CC-BY-4.0",
        (Rule("*/img/twitter/64/*", DRAWING, named=True),),
        held_out=True,
    ),
    Package("openmoji", "npm", "CC-BY-SA-4.0", (Rule("*/color/svg/*", DRAWING, named=True),)),
    *(
        Package(f"{ICONS}{name}", "npm", licence, (Rule("*/icons.json.d/*", DRAWING, named=True),))
        for name, licence in _ICON_SETS.items()
    ),
)
