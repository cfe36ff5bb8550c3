"""The page of `crnn function` in headless Chromium: what a reader does is seen, and nothing is fetched."""

import base64
import hashlib
import io
import json
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from crnn_cli.report.page.review import read_review
from tests.cardiac.hearts import heart
from tests.support.browser import complaints, open_browser, requested, set_width

SHADES = np.array([60, 160, 30, 230], np.float32)  # background, right cavity, wall, left cavity


@pytest.fixture(scope="module")
def images():
    """A beating heart, its labels (ACDC's values), and images of it with a mark in one corner of each slice."""
    labels = heart()
    labels = replace(labels, array=np.pad(labels.array, ((40, 40), (40, 40), (0, 0), (0, 0))))
    array = SHADES[labels.array] + np.random.default_rng(5).normal(0, 4, labels.array.shape).astype(np.float32)
    array[4:24, 8:20] = 250
    return labels, np.clip(array, 0, 255)


@pytest.fixture(scope="module")
def page(images, tmp_path_factory):
    """Page of the heart, made by the command."""
    from typer.testing import CliRunner

    from crnn_cli.cli.app import app

    folder = tmp_path_factory.mktemp("page")
    labels, array = images
    for name, values in (("labels", labels.array), ("cine", array)):
        image = nib.Nifti1Image(values, labels.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 0.04
        nib.save(image, folder / f"{name}.nii.gz")
    arguments = ["function", folder / "labels.nii.gz", "--labels", "acdc", "--image", folder / "cine.nii.gz", "--page"]
    ended = CliRunner().invoke(app, [str(each) for each in (*arguments, folder / "page.html")])
    assert ended.exit_code == 0, ended.stderr
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(page):
    driver = open_browser(page.parent)
    yield driver
    driver.quit()


@pytest.fixture
def viewer(browser, page):
    """The page, freshly opened and drawn, 1000 pixels wide."""
    set_width(browser, 1000)
    browser.get(page.as_uri())
    drawn(browser)
    return browser


def drawn(driver, until=None):
    """Wait until the viewer has drawn a slice and frame; both as it says, from 0."""
    for _ in range(500):
        found = driver.execute_script("return document.querySelector('.viewer').dataset.drawn || ''")
        if found and (until is None or found == until):
            return found
        time.sleep(0.02)
    raise AssertionError(f"drawn: {found}, not {until}")


def settled(driver):
    """Wait for two frames of the screen: what was asked for is drawn."""
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


def picture(driver, selector=".main canvas"):
    """Pixels of a canvas (rows, columns, 3)."""
    settled(driver)
    text = driver.execute_script(f"return document.querySelector('{selector}').toDataURL()")
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2]))).convert("RGB")).astype(int)


def caption(driver):
    return driver.find_element("css selector", ".main figcaption").text


def slide(driver, name, value):
    """Move a slider as a hand does."""
    driver.execute_script(
        "const each = document.querySelector(arguments[0]); each.value = arguments[1];"
        "each.dispatchEvent(new Event('input', {bubbles: true}))", f"input.{name}", value,
    )  # fmt: skip


def tick(driver, selector, on):
    box = driver.find_element("css selector", selector)
    if box.is_selected() != on:
        box.click()


def keys(driver, *pressed, on="body"):
    from selenium.webdriver.common.action_chains import ActionChains

    if on != "body":
        driver.execute_script(f"document.querySelector('{on}').focus()")
    actions = ActionChains(driver)
    for key in pressed:
        actions.send_keys(key)
    actions.perform()
    settled(driver)


def test_nothing_is_fetched_and_nothing_complained_of(browser, page):
    requested(browser), complaints(browser)
    browser.get(page.as_uri())
    drawn(browser)
    time.sleep(0.3)
    assert requested(browser) == [page.as_uri()]
    assert complaints(browser) == []
    assert browser.execute_script("return performance.getEntriesByName('first-picture')[0].startTime") < 3000


def test_the_policy_of_the_page_lets_nothing_out(viewer):
    code = "const done = arguments[0]; fetch('https://example.org/').then(() => done('sent'), () => done('refused'))"
    assert viewer.execute_async_script(code) == "refused"


@pytest.mark.parametrize("how", ["slider", "wheel", "keys", "drag", "plot"])
def test_scrubbing_shows_another_picture_and_says_which(viewer, how):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    before = picture(viewer)
    assert caption(viewer).startswith("Slice 5 of 9, frame 1 of 20, 0 ms, end diastole")
    main = viewer.find_element("css selector", ".main canvas")
    if how == "slider":
        slide(viewer, "slice", 4)
        slide(viewer, "frame", 11)
        expected = "Slice 4 of 9, frame 11 of 20, 400 ms, end systole"
    elif how == "wheel":
        code = "document.querySelector('.main canvas').dispatchEvent(new WheelEvent('wheel', arguments[0]))"
        viewer.execute_script(code, {"deltaY": 60, "cancelable": True})
        viewer.execute_script(code, {"deltaY": -60, "shiftKey": True, "cancelable": True})
        expected = "Slice 6 of 9, frame 20 of 20"
    elif how == "keys":
        keys(viewer, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        keys(viewer, Keys.ARROW_UP, on=".main canvas")
        expected = "Slice 4 of 9, frame 3 of 20"
    elif how == "drag":
        ActionChains(viewer).move_to_element_with_offset(main, -80, 150).click_and_hold().move_by_offset(
            90, 0
        ).perform()
        expected = "Slice 5 of 9, frame"
    else:
        plot = viewer.find_element("css selector", ".viewer .plot")
        ActionChains(viewer).move_to_element(plot).click().perform()
        expected = "Slice 5 of 9, frame"
    settled(viewer)
    assert caption(viewer).startswith(expected)
    assert "frame 1 of" not in caption(viewer)
    after = picture(viewer)
    assert np.abs(after - before).mean() > 0.5
    if how == "keys":
        keys(viewer, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_DOWN)
        np.testing.assert_array_equal(picture(viewer), before)


def test_the_picture_is_the_slice_the_right_way_round(viewer, images):
    """Rows, columns and levels are those of the display of every other picture of the program."""
    from crnn_cli.cardiac.function import stack_order

    tick(viewer, "input.whole", True)
    tick(viewer, "input.line", False)
    keys(viewer, "o")
    slide(viewer, "frame", 8)
    shown = picture(viewer).mean(axis=2)
    labels, array = images
    order = stack_order(labels)
    truth = order.to_display(order.to_slices(array[..., 7]))
    number = order.numbers(9)
    expected = truth[number.index(5)]
    small = np.asarray(
        PIL.Image.fromarray(shown.astype(np.float32)).resize(expected.shape[::-1], PIL.Image.Resampling.BOX)
    )
    white = np.percentile(array, 99.7)
    assert np.abs(small - np.clip(255 * expected / white, 0, 255)).mean() < 6
    assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.99


def test_outlines_are_switched_one_by_one_and_follow_the_labels(viewer, images):
    tick(viewer, "input.line", False)
    whole = picture(viewer)
    orange = np.abs(whole - [255, 138, 61]).sum(axis=2) < 60
    assert orange.sum() > 100
    tick(viewer, '[data-label="3"]', False)
    without = picture(viewer)
    assert not (np.abs(without - [255, 138, 61]).sum(axis=2) < 60).any()
    assert (np.abs(without - [86, 180, 233]).sum(axis=2) < 60).sum() > 100
    keys(viewer, "3")
    np.testing.assert_array_equal(picture(viewer), whole)
    slide(viewer, "frame", 11)
    later = np.abs(picture(viewer) - [255, 138, 61]).sum(axis=2) < 60
    cavity = images[0].array[:, :, 4] == 3
    for axis in (0, 1):  # of the display; a circle is as high as it is wide
        drawn_sizes = [np.ptp(np.nonzero(each)[axis]) for each in (orange, later)]
        true_sizes = [1 + np.ptp(np.nonzero(cavity[..., frame])[axis]) for frame in (0, 10)]
        assert drawn_sizes[1] / drawn_sizes[0] == pytest.approx(true_sizes[1] / true_sizes[0], abs=0.03)


def test_the_line_over_time_is_the_pixels_under_the_line(viewer):
    """The left cavity is bright: its width on the line narrows by a quarter, and the line can be dragged off it."""
    from selenium.webdriver.common.action_chains import ActionChains

    profile = picture(viewer, ".profile canvas").mean(axis=2)
    columns = [round((frame + 0.5) * profile.shape[1] / 20) for frame in (0, 10)]
    bright = [(profile[:, column] > 210).mean() for column in columns]
    assert bright[1] / bright[0] == pytest.approx(0.75, abs=0.06)
    main = viewer.find_element("css selector", ".main canvas")
    content = json.loads(viewer.execute_script("return document.querySelector('.viewer script').textContent"))
    top, bottom = content["region"][:2]
    middle = main.size["height"] * ((content["line"][1] - top) / (bottom - top) - 0.5)
    start = ActionChains(viewer).move_to_element_with_offset(main, 40, round(middle)).click_and_hold()
    start.move_by_offset(0, -round(0.4 * main.size["height"])).release().perform()
    settled(viewer)
    assert caption(viewer).startswith("Slice 5 of 9, frame 1 of 20")
    moved = picture(viewer, ".profile canvas").mean(axis=2)
    assert (moved[:, columns[0]] > 210).mean() < 0.5 * bright[0]


def test_the_plot_marks_the_frame_and_phases_lie_beside_each_other(viewer):
    slide(viewer, "frame", 11)
    settled(viewer)
    plot = viewer.find_element("css selector", ".viewer .plot")
    mark = plot.find_element("css selector", ".now")
    step, left = (float(plot.get_attribute(f"data-{name}")) for name in ("step", "left"))
    assert float(mark.get_attribute("x1")) == pytest.approx(left + 10 * step, abs=0.01)
    phases = viewer.find_elements("css selector", ".phases canvas")
    assert [each.location["y"] for each in phases] == [phases[0].location["y"]] * 2
    both = [picture(viewer, f'.phases canvas[data-frame="{frame}"]') for frame in (0, 10)]
    assert np.abs(both[0] - both[1]).mean() > 2
    phases[0].click()
    settled(viewer)
    assert "frame 1 of 20" in caption(viewer)


def touch(driver, x, y, *moves):
    """Put a finger on the screen, move it by steps, and lift it."""
    points = [{"x": x + sum(step[0] for step in moves[:k]), "y": y + sum(step[1] for step in moves[:k])}
              for k in range(len(moves) + 1)]  # fmt: skip
    for kind, point in zip(["touchStart", *["touchMove"] * len(moves)], points, strict=True):
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        settled(driver)
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settled(driver)


def test_a_finger_scrubs_drags_the_line_and_scrolls_the_page(browser, page):
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        set_width(browser, 400, 700)
        browser.get(page.as_uri())
        drawn(browser)
        box = browser.execute_script(
            "document.querySelector('.main').scrollIntoView();"
            "const box = document.querySelector('.main canvas').getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]"
        )
        line = picture(browser, ".profile canvas")
        touch(browser, box[0] + 60, box[1] + 0.8 * box[3], (20, 0), (40, 0), (40, 0))
        assert "frame 1 of" not in caption(browser)
        np.testing.assert_array_equal(caption(browser)[:12], "Slice 5 of 9")
        slide(browser, "frame", 1)
        content = json.loads(browser.execute_script("return document.querySelector('.viewer script').textContent"))
        top, bottom = content["region"][:2]
        y = box[1] + box[3] * (content["line"][1] - top) / (bottom - top)
        before = browser.execute_script("return scrollY")
        touch(browser, box[0] + 0.55 * box[2], y, (0, -15), (0, -30), (0, -30))
        assert browser.execute_script("return scrollY") == before
        assert "frame 1 of" in caption(browser)
        assert np.abs(picture(browser, ".profile canvas") - line).mean() > 5
        touch(browser, box[0] + 60, box[1] + 0.9 * box[3], (0, -20), (0, -60), (0, -60))
        assert browser.execute_script("return scrollY") > before
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_play_goes_on_and_stops(viewer):
    button = viewer.find_element("css selector", ".play")
    button.click()
    latest = time.monotonic() + 30
    while drawn(viewer) == "4 0" and time.monotonic() < latest:
        time.sleep(0.02)
    assert drawn(viewer) != "4 0"
    button.click()
    settled(viewer)
    stopped = drawn(viewer)
    time.sleep(0.15)
    assert drawn(viewer) == stopped


@pytest.mark.parametrize("width", [400, 640, 1000, 1600])
@pytest.mark.parametrize("dark", [False, True])
def test_no_width_overflows_and_colours_follow_the_system(viewer, width, dark):
    set_width(viewer, width, dark=dark)
    settled(viewer)
    wide, room = viewer.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room == width
    back = viewer.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(20, 23, 26)") is dark
    assert viewer.find_element("css selector", ".main canvas").size["width"] > 0.4 * min(width, 900)


def test_paper_has_pictures_and_numbers_and_no_controls(viewer):
    viewer.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = [viewer.find_element("css selector", each) for each in (".controls", "form.review", "details")]
        assert not [each for each in hidden if each.is_displayed()]
        for selector in (".main canvas", ".phases canvas", ".plot", ".grid"):
            assert viewer.find_element("css selector", selector).is_displayed()
        assert picture(viewer).max() > 200
    finally:
        viewer.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_review_is_saved_and_read_back(viewer, page):
    viewer.find_element("css selector", "form.review button").click()
    assert not list(page.parent.glob("*.review.json"))  # without a verdict there is nothing to save
    viewer.find_element("css selector", 'input[value="doubtful"]').click()
    note = 'base is cut "here" <b>'
    viewer.find_element("css selector", "textarea").send_keys(note)
    viewer.find_element("css selector", "form.review button").click()
    saved = page.with_name("labels.review.json")
    for _ in range(100):
        if saved.exists() and saved.read_bytes().endswith(b"}\n"):
            break
        time.sleep(0.05)
    review = read_review(saved)
    assert (review.name, review.verdict, review.note) == ("labels", "doubtful", note)
    assert review.sha256 == hashlib.sha256(page.with_name("labels.nii.gz").read_bytes()).hexdigest()
    assert json.loads(saved.read_text())["date"].endswith("Z")
