"""Real pictures: bad files are read or counted, splits do not leak, TAESD's files are what they say."""

import json
import struct
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.real import catalogue, crops, encoded, fetching, names, plans, reading, taesd
from benchmarks.real.packages import DRAWING, ICONS, PACKAGES, PHOTOGRAPH, Package, Rule

pytest.importorskip("diffusers")
CHECKER = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)


def photograph(seed: int, width: int = 280, height: int = 240) -> Image.Image:
    """Smooth noise that looks the same at every size and different for every seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with a set of photographs and two sets of named drawings, as if fetched."""
    packages = (
        Package("photos", "debian", "CC0-1.0", (Rule("*", PHOTOGRAPH),)),
        Package("drawn", "npm", "CC0-1.0", (Rule("*", DRAWING, named=True),)),
        Package("other-hand", "npm", "CC0-1.0", (Rule("*", DRAWING, named=True),), held_out=True),
    )
    monkeypatch.setattr(catalogue, "PACKAGES", packages)
    monkeypatch.setattr(catalogue, "names_of", lambda cache: named(tmp_path))
    for package in packages:
        (tmp_path / "files" / package.name).mkdir(parents=True)
    for seed in range(24):
        photograph(seed).save(tmp_path / "files" / "photos" / f"photo_{seed}.png")
    photograph(0, 140, 120).save(tmp_path / "files" / "photos" / "photo_0-140x120.png")
    for seed in range(12):
        for hand in ("drawn", "other-hand"):
            cutout = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
            cutout.paste((seed * 20, 90, len(hand) * 20, 255), (8, 8, 40 + seed, 50))
            cutout.save(tmp_path / "files" / hand / f"thing{seed}.png")
    return tmp_path


def named(cache):
    words = ["apple", "bear", "cat", "dog", "egg", "fish", "goat", "hat", "igloo", "jar", "kite", "lamp"]
    return {
        f"files/{hand}/thing{n}.png": names.Name(word)
        for hand in ("drawn", "other-hand")
        for n, word in enumerate(words)
    }


def built(cache):
    return catalogue.build(cache, say=lambda text: None)


# ---- files of every kind


def saved(tmp_path, picture, name, **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode_are_read_as_rgb(tmp_path, mode):
    grey = Image.fromarray(CHECKER)
    picture = Image.fromarray(CHECKER.astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    path = saved(tmp_path, picture, "a.tif" if mode == "CMYK" else "a.png")
    read = reading.read_picture(path)
    assert read.mode == "RGB"
    np.testing.assert_allclose(np.asarray(read)[..., 0], CHECKER, atol=1)


def test_transparent_pictures_are_laid_on_the_ground_asked_for(tmp_path):
    cutout = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    cutout.paste((0, 0, 255, 255), (0, 0, 32, 64))
    path = saved(tmp_path, cutout, "a.png")
    white, green = reading.read_picture(path), reading.read_picture(path, (0, 255, 0))
    assert white.getpixel((48, 8)) == (255, 255, 255)
    assert green.getpixel((48, 8)) == (0, 255, 0)
    assert green.getpixel((8, 8)) == (0, 0, 255)


def test_a_palette_with_a_transparent_colour_is_transparent(tmp_path):
    picture = Image.new("P", (64, 64), 1)
    picture.putpalette([9, 9, 9, 200, 0, 0])
    picture.paste(0, (0, 0, 32, 64))
    path = saved(tmp_path, picture, "a.png", transparency=0)
    assert reading.read_picture(path).getpixel((8, 8)) == (255, 255, 255)
    assert reading.read_picture(path).getpixel((48, 8)) == (200, 0, 0)


def test_the_first_frame_of_an_animated_picture_is_read(tmp_path):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert reading.read_picture(path).getpixel((5, 5)) == (255, 0, 0)


def test_bad_pictures_are_left_out_and_counted_and_nothing_else_is_lost(cache):
    photos = cache / "files" / "photos"
    whole = (photos / "photo_1.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.webp").write_text("not a picture")
    Image.new("RGB", (8, 500)).save(photos / "small.png")
    huge = bytearray(saved(photos, Image.new("L", (40, 40)), "huge.png").read_bytes())
    huge[16:24] = struct.pack(">2I", 60_000, 60_000)
    (photos / "huge.png").write_bytes(bytes(huge))
    pictures, skipped = built(cache)
    assert skipped == Counter({"broken": 3, "the same picture again": 1, "tiny": 1, "huge": 1}) or (
        skipped == Counter({"broken": 4, "the same picture again": 1, "tiny": 1})
    )
    assert sum(p.kind == PHOTOGRAPH for p in pictures) == 24


def test_a_set_in_one_file_is_unpacked_and_named_by_unicode(tmp_path):
    """Iconify's layout: sizes of the set or of a drawing, names in whatever spelling."""
    package = tmp_path / "files" / f"{ICONS}fxemoji" / "package"
    package.mkdir(parents=True)
    body = '<rect width="6" height="4" fill="#ff0000"/>'
    icons = {"redapple": {"body": body}, "red-apple-wide": {"body": body, "width": 12}}
    content = {"prefix": "x", "width": 6, "height": 4, "icons": icons}
    (package / "icons.json").write_text(json.dumps(content))
    emoji = tmp_path / "files" / "openmoji" / "package" / "data"
    emoji.mkdir(parents=True)
    known = {"hexcode": "1F34E", "annotation": "red apple", "tags": "fruit", "skintone": "", "group": "food"}
    (emoji / "openmoji.json").write_text(json.dumps([known]))
    assert fetching.unpack_icons(package / "icons.json") == 2
    path = f"files/{ICONS}fxemoji/package/icons.json.d/redapple.svg"
    assert names.names_of(tmp_path) == {path: names.Name("red apple", ("fruit",))}
    pytest.importorskip("cairosvg")
    square = reading.read_picture(tmp_path / path)
    wide = reading.read_picture((tmp_path / path).with_name("red-apple-wide.svg"))
    assert square.width / square.height == pytest.approx(1.5, rel=0.01)
    assert wide.width / wide.height == pytest.approx(3, rel=0.01)
    assert wide.getpixel((10, 10)) == (255, 0, 0) and wide.getpixel((500, 10)) == (255, 255, 255)


# ---- the catalogue and its splits


def test_no_name_and_no_picture_is_in_two_splits(cache):
    pictures, _ = built(cache)
    for key in ("group", "id"):
        splits = {}
        for picture in pictures:
            splits.setdefault(getattr(picture, key), set()).add(picture.split)
        assert all(len(found) == 1 for found in splits.values())
    by_name = {p.name: p.split for p in pictures if p.named and not p.held_out}
    assert {p.name: p.split for p in pictures if p.held_out} == by_name


def test_the_catalogue_is_read_back_as_it_was_built(cache):
    pictures, _ = built(cache)
    assert catalogue.load(cache) == pictures
    assert built(cache)[0] == pictures


def test_a_picture_in_a_second_size_is_catalogued_once_in_the_larger(cache):
    pictures, _ = built(cache)
    found = [p for p in pictures if "photo_0" in p.path and p.path.endswith(("photo_0.png", "140x120.png"))]
    assert [(p.width, p.height) for p in found] == [(280, 240)]


def test_dark_and_bright_pictures_are_marked(cache):
    photos = cache / "files" / "photos"
    for name, level in (("dark", 12), ("bright", 240)):
        Image.new("RGB", (600, 600), (level,) * 3).save(photos / f"{name}.png")
    tones = {p.path.rsplit("/")[-1]: p.tone for p in built(cache)[0]}
    assert (tones["dark.png"], tones["bright.png"], tones["photo_1.png"]) == ("night", "high-key", "")


def test_every_package_states_its_licence_and_is_listed():
    listed = fetching.licences()
    assert all(p.licence and f"{p.registry}\t{p.name}\t{p.licence}" in listed for p in PACKAGES)
    assert len({p.name for p in PACKAGES}) == len(PACKAGES)


def test_a_package_that_cannot_be_had_is_named_and_the_others_stay(tmp_path, monkeypatch):
    def offline(command, folder):
        raise OSError("no network")

    monkeypatch.setattr(fetching, "_call", offline)
    packages = [Package(name, "debian", "CC0-1.0", ()) for name in ("there", "not-there")]
    (tmp_path / "files" / "there").mkdir(parents=True)
    assert fetching.fetch(tmp_path, packages, say=lambda text: None) == ["not-there"]
    assert [p.name for p in (tmp_path / "files").iterdir()] == ["there"]
    assert "not-there" in (tmp_path / "LICENCES.txt").read_text()


def test_pictures_in_a_qt_resource_file_are_unpacked(tmp_path):
    contents = [saved(tmp_path, photograph(s, 64, 64), "x.png").read_bytes() for s in (1, 2)] + [b"text"]
    body = b"".join(struct.pack(">I", len(c)) + c for c in contents)
    path = tmp_path / "a.rcc"
    path.write_bytes(b"qres" + struct.pack(">4I", 3, 20 + len(body), 20, 0) + body + b"names")
    assert fetching.unpack_resources(path) == 2
    assert [p.read_bytes() for p in sorted((tmp_path / "a.rcc.d").iterdir())] == contents[:2]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A hiking boot", "hiking boot"),
        ("banana_01", "banana"),
        ("dog face", "dog face"),
        ("3D", ""),
        ("", ""),
    ],
)
def test_names_are_words_without_article_and_number(title, name):
    assert names.tidy(title) == name


# ---- plans and the cache of latents


def test_crops_lie_inside_their_pictures_and_no_picture_is_in_two_splits(cache):
    pictures, _ = built(cache)
    items = plans.photo_crops(pictures, 100, 3, {"train": 20, "dev": 5, "test": 5})
    assert items == plans.photo_crops(pictures, 100, 3, {"train": 20, "dev": 5, "test": 5})
    assert len({item.id for item in items}) == len(items)
    for item in items:
        left, top, side = item.box
        assert 0 <= left <= 280 - side and 0 <= top <= 240 - side
    assert all(len({i.split for i in items if i.path == path}) == 1 for path in {i.path for i in items})


def test_drawings_come_once_each_before_any_comes_twice_and_differ_then(cache):
    pictures, _ = built(cache)
    items = plans.drawing_variants(pictures, 48)
    assert len({item.path for item in items[:24]}) == 24
    assert {item.variant for item in items} == {0, 1}
    once, twice = (plans.render(next(i for i in items if i.variant == v), 64, cache) for v in (0, 1))
    assert once.shape == (64, 64, 3) and not np.array_equal(once, twice)


def test_a_drawings_ground_is_of_its_own_split(cache):
    pictures, _ = built(cache)
    split = {p.path: p.split for p in pictures}
    grounds = [i for i in plans.drawing_variants(pictures, 240) if i.ground]
    assert grounds and all(split[i.ground] == i.split for i in grounds)


def quiet(cache, items, size=64, **options):
    return encoded.encode_plan(cache, "trial", items, encoded.PIXELS, size, say=lambda text: None, **options)


def test_encoding_goes_on_where_it_was_and_loads_in_order(cache):
    items = plans.photo_crops(built(cache)[0], 100, 1, {"train": 9, "dev": 9, "test": 9})
    assert quiet(cache, items[:8], shard=4) == 8
    assert quiet(cache, items, shard=4) == len(items) - 8
    assert quiet(cache, items, shard=4) == 0
    found = encoded.load_encoded(cache, "trial", encoded.PIXELS, 64)
    assert [item["id"] for item in found.items] == [item.id for item in items]
    np.testing.assert_array_equal(found.latents[5].permute(1, 2, 0), plans.render(items[5], 64, cache))
    parts = [found.of(split).latents.shape[0] for split in ("train", "dev", "test")]
    assert sum(parts) == len(items)


def test_a_shard_that_was_cut_short_is_encoded_again(cache):
    items = plans.photo_crops(built(cache)[0], 100, 1, {"train": 8})
    quiet(cache, items, shard=4)
    first = encoded.folder_of(cache, "trial", encoded.PIXELS, 64) / "00000.safetensors"
    whole = first.read_bytes()
    first.write_bytes(whole[:100])
    assert quiet(cache, items, shard=4) == 4
    assert first.read_bytes() == whole


def test_shards_of_another_plan_are_refused_not_overwritten(cache):
    items = plans.photo_crops(built(cache)[0], 100, 1, {"train": 8})
    quiet(cache, items, shard=4)
    with pytest.raises(ValueError, match="other items than the plan"):
        quiet(cache, items[::-1], shard=4)


def test_a_picture_that_has_gone_is_left_out_of_its_shard(cache):
    items = plans.photo_crops(built(cache)[0], 100, 1, {"train": 8})
    (cache / items[2].path).write_bytes(b"gone")
    assert quiet(cache, items, shard=8) == len(items) - 1
    found = encoded.load_encoded(cache, "trial", encoded.PIXELS, 64)
    assert items[2].id not in {item["id"] for item in found.items}
    assert found.latents.shape[0] == len(items) - 1


def test_pairs_are_the_items_that_both_have(cache):
    items = plans.photo_crops(built(cache)[0], 100, 1, {"train": 8})
    quiet(cache, items, 64)
    quiet(cache, items[3:], 32)
    large, small, both = encoded.pairs(
        *(encoded.load_encoded(cache, "trial", encoded.PIXELS, s) for s in (64, 32))
    )
    assert [item["id"] for item in both] == [item.id for item in items[3:]]
    assert large.shape[0] == small.shape[0] == len(both)


# ---- TAESD


@pytest.fixture(params=list(taesd.FILES))
def space(request):
    return request.param


def write_random(folder, space, change=lambda weights: weights):
    """Files of a space with random weights, laid out as the published ones."""
    torch.manual_seed(0)
    model = taesd.tiny_model(space)
    for part in ("encoder", "decoder"):
        state = getattr(model, part).state_dict()
        weights = change({taesd.published_name(n, part): w.half().contiguous() for n, w in state.items()})
        path = taesd.FILES[space].path(part, folder)
        torch.save(weights, path) if path.suffix == ".pth" else save_file(weights, path)
    return model


def test_shapes_and_scale_of_a_spaces_latents(tmp_path, space):
    model = write_random(tmp_path, space)
    loaded = taesd.load_taesd(space, tmp_path)
    pictures = torch.rand(2, 3, 32, 64)
    raw = loaded.encode(pictures)
    factor = loaded.space.factor
    assert raw.shape == (2, loaded.space.channels, 32 // factor, 64 // factor)
    assert loaded.decode(raw).shape == pictures.shape
    if factor == 8:
        own = model.half().float().encoder(pictures * 2 - 1)
        torch.testing.assert_close((raw - loaded.space.shift) * loaded.space.scale, own)


def test_published_names_count_the_decoders_clamp():
    assert taesd.published_name("layers.0.weight", "encoder") == "0.weight"
    assert taesd.published_name("layers.2.conv.0.bias", "decoder") == "3.conv.0.bias"


def test_patches_and_cells_are_each_others_inverse_in_the_hosts_order():
    cells = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).float()
    patches = taesd.to_patches(cells)
    hosts = cells.reshape(2, 3, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 2, 3)
    assert torch.equal(patches, hosts)
    assert torch.equal(taesd.to_cells(patches), cells)


def test_a_size_that_is_no_multiple_is_refused_by_number(tmp_path, space):
    write_random(tmp_path, space)
    with pytest.raises(ValueError, match="multiples of"):
        taesd.load_taesd(space, tmp_path).encode(torch.rand(1, 3, 36, 32))


def test_no_files_is_a_reason_to_skip(tmp_path, space):
    with pytest.raises(taesd.TinyMissing, match="TAESD_PATH"):
        taesd.load_taesd(space, tmp_path)


def test_taesd_path_says_where_the_files_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TAESD_PATH", str(tmp_path))
    write_random(tmp_path, "sdxl")
    assert taesd.load_taesd("sdxl").space.name == "sdxl"


def test_a_file_cut_short_is_a_clear_error(tmp_path, space):
    write_random(tmp_path, space)
    path = taesd.FILES[space].path("decoder", tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut short"):
        taesd.load_taesd(space, tmp_path)


def test_a_file_of_another_space_is_refused_by_name(tmp_path):
    write_random(tmp_path, "sdxl")
    write_random(tmp_path, "flux")
    flux = taesd.FILES["flux"].path("encoder", tmp_path)
    flux.rename(taesd.FILES["sdxl"].path("encoder", tmp_path))
    with pytest.raises(ValueError, match="not the TAESD encoder of SDXL"):
        taesd.load_taesd("sdxl", tmp_path)


def test_a_file_with_a_weight_missing_is_refused(tmp_path):
    write_random(
        tmp_path, "sd3", lambda weights: {n: w for n, w in weights.items() if not n.endswith("1.bias")}
    )
    with pytest.raises(ValueError, match="differ in name or shape"):
        taesd.load_taesd("sd3", tmp_path)


def test_an_unknown_space_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"sdxl, sd1\.5, sd3, flux, flux2"):
        taesd.load_taesd("wan2.1")


real_files = pytest.mark.skipif(
    not taesd.FILES["sdxl"].path("encoder", taesd.taesd_folder()).is_file(),
    reason="no TAESD files in TAESD_PATH",
)


@real_files
def test_the_published_weights_give_pictures_back(space):
    """Reconstruction above 20 dB, which no wrong scale, order of channels or middle block reaches."""
    model = taesd.load_taesd(space)
    pictures = torch.from_numpy(np.stack([np.asarray(photograph(s, 128, 128)) for s in (1, 2)]))
    pictures = pictures.permute(0, 3, 1, 2) / 255
    error = (model.decode(model.encode(pictures)) - pictures).square().mean()
    assert -10 * error.log10() > 20


@real_files
def test_sd15s_published_file_in_sdxls_place_is_refused_by_name(tmp_path):
    for part in ("encoder", "decoder"):
        for name in ("sdxl", "sd1.5"):
            source = taesd.FILES["sd1.5"].path(part, taesd.taesd_folder())
            taesd.FILES[name].path(part, tmp_path).write_bytes(source.read_bytes())
    with pytest.raises(ValueError, match=r"holds the TAESD encoder of SD1\.5"):
        taesd.load_taesd("sdxl", tmp_path)


def test_items_are_written_as_plain_json(cache):
    items = plans.drawing_variants(built(cache)[0], 2)
    quiet(cache, items)
    lines = (encoded.folder_of(cache, "trial", encoded.PIXELS, 64) / "00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == [item.name for item in items]


# ---- crops that maps are learnt from


def test_maps_learn_from_no_drawing_that_the_probe_is_asked_about_and_are_measured_on_photographs(cache):
    pictures, _ = built(cache)
    train, test = (crops.drawn_from(pictures, split) for split in ("train", "test"))
    assert {p.source for p in train} == {"photos", "drawn"}
    assert test and {p.kind for p in test} == {PHOTOGRAPH}
    assert not {p.id for p in train} & {p.id for p in test}


def test_crops_of_fewer_are_the_first_of_more_and_lead_through_pixels(cache, tmp_path, monkeypatch):
    built(cache)
    monkeypatch.setenv("TAESD_PATH", str(tmp_path))
    for name in ("sdxl", "flux2"):
        write_random(tmp_path, name)
    few, more = (crops.load_crops(cache, "train", number, ("flux2",)) for number in (2, 4))
    assert set(more) == {"flux2", "flux2 through"} and len(more["flux2"]) == 4
    assert all(torch.equal(z, more[name][:2]) for name, z in few.items())
    other, sdxl = (taesd.load_taesd(name) for name in ("flux2", "sdxl"))
    with torch.inference_mode():
        through = sdxl.encode(other.decode(more["flux2"]))
    assert (through - more["flux2 through"]).norm() < 0.05 * through.norm()  # of bfloat16
    with pytest.raises(ValueError, match="2 at a time"):
        crops.load_crops(cache, "train", 3, ("flux2",))


def test_sizes_between_are_brought_to_twice_the_size_as_the_rule_does(cache, tmp_path, monkeypatch):
    built(cache)
    monkeypatch.setenv("TAESD_PATH", str(tmp_path))
    write_random(tmp_path, "sdxl")
    found = crops.load_crops(cache, "dev", 2, ("large", "between"))
    kinds = ("large", "between")
    assert set(found) == {"picture", "sdxl", *kinds, *(f"{kind} through" for kind in kinds)}
    assert {found[kind].shape for kind in kinds} == {(2, 4, 48, 48)}
    assert {found[f"{kind} through"].shape for kind in kinds} == {found["sdxl"].shape} == {(2, 4, 24, 24)}


def test_some_latents_to_learn_from_are_a_little_off():
    z = torch.randn(400, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    share = (crops._off(z, 1) - z).std((1, 2, 3)) / z.std()
    assert 0.4 < (share == 0).float().mean() < 0.6 and 0.25 < share.max() < 1.1 * crops.OFF


def test_what_the_decoder_sees_is_what_its_picture_is_made_of(tmp_path):
    """Past the decoder's layers up to the first that enlarges, the others give the decoded picture."""
    write_random(tmp_path, "sdxl")
    tiny = taesd.load_taesd("sdxl", tmp_path)
    z = 6 * torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    seen = tiny.seen(z)
    layers = list(tiny.model.decoder.layers)
    first = next(n for n, layer in enumerate(layers) if isinstance(layer, torch.nn.Upsample))
    assert seen.shape == (2, 64, 4, 4)
    assert torch.allclose(torch.nn.Sequential(*layers[first:])(seen), tiny.decode_unclipped(z), atol=1e-5)
