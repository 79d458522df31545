"""The page of `muse studio` in a headless Chromium: every job that it has, done as a user does it.

    scripts/studio.sh [FOLDER]   runs it, and keeps its screenshots in that folder
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a frog above two stars at night"
MODES = ["Generate", "Inpaint", "Outpaint", "Edit without a mask", "Compare seeds"]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Colours of a canvas, or of a part of it, and a picture as numbers.
PIXELS = """(canvas, [x, y, w, h]) =>
    Array.from(canvas.getContext("2d").getImageData(x, y, w || canvas.width, h || canvas.height).data)"""

arguments = None


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        command = [arguments.muse, "studio", "--device", "cpu", "--threads", "1", "--listen", "127.0.0.1:0"]
        cls.server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        cls.address = cls.server.stdout.readline().strip()
        assert cls.address, f"{' '.join(command)} does not start: build it with `--features studio`"
        cls.playwright = sync_playwright().start()
        cls.browser = cls.playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.playwright.stop()
        cls.server.kill()
        cls.server.wait()
        cls.server.stdout.close()

    def setUp(self):
        self.wrong = []  # what the page may not do

    def tearDown(self):
        for context in self.browser.contexts:
            context.close()
        self.assertEqual(self.wrong, [])

    def open(self, size=WIDE, **options):
        """A new page, that asks nobody but the server."""
        context = self.browser.new_context(viewport=size, **options)
        page = context.new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)

        def asked(request):
            if not request.url.startswith((self.address + "/", "data:", "blob:" + self.address)):
                self.wrong.append(f"asked for {request.url}")

        page.on("request", asked)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        # A refusal is a part of some tests; what the browser refuses, as by the content security policy, is not.
        quiet = "Failed to load resource"
        page.on("console", lambda m: m.type == "error" and quiet not in m.text and self.wrong.append(m.text))
        page.goto(self.address)
        expect(page.locator("#model")).to_contain_text("demo")
        self.fill(page, steps=3)
        page.locator("#size").select_option("base")
        return page

    def mode(self, page, name):
        page.get_by_role("radio", name=name, exact=True).check()

    def fill(self, page, **values):
        for name, value in values.items():
            page.locator(f"#{name}").fill(str(value))

    def make(self, page, **values):
        """Makes an image, and returns its pixels and size."""
        self.fill(page, **values)
        page.locator("#go").click()
        return self.made(page)

    def made(self, page):
        expect(page.locator("#state")).to_contain_text("Done in")
        expect(page.locator("#go")).to_be_enabled()
        return self.picture(page)

    def picture(self, page):
        canvas = page.locator("#canvas")
        size = canvas.evaluate("(canvas) => [canvas.width, canvas.height]")
        return canvas.evaluate(PIXELS, [0, 0, 0, 0]), size

    def jobs(self):
        with urllib.request.urlopen(self.address + "/health", timeout=30) as answer:
            return json.load(answer)["jobs"]

    def quiet(self):
        """Waits until the server has nothing to do."""
        for _ in range(600):
            if self.jobs() == 0:
                return
            self.browser.contexts[0].pages[0].wait_for_timeout(50)
        self.fail("the job goes on")

    def screenshot(self, page, name):
        if arguments.screenshots:
            page.screenshot(path=Path(arguments.screenshots) / f"{name}.png", full_page=True)

    def test_an_image_is_generated_step_by_step(self):
        page = self.open()
        page.evaluate("""() => {
            window.seen = [];
            const grid = document.getElementById("tokens"), picture = document.getElementById("canvas");
            new MutationObserver(() => seen.push([
                document.getElementById("tokens-said").textContent,
                document.getElementById("speed").textContent,
                picture.getAttribute("aria-label"),
            ])).observe(picture, { attributeFilter: ["aria-label"] });
        }""")
        page.locator("#size").select_option("full")
        self.make(page, prompt=PROMPT, seed=5, steps=6)
        seen = page.evaluate("seen")
        for grid, stage in [("8 × 8", "base"), ("16 × 16", "superres")]:
            masked = [int(s[0].split(", ")[1].split()[0]) for s in seen if s[0].startswith(grid) and "after step" in s[2]]
            self.assertGreaterEqual(len(masked), 4, stage)
            self.assertEqual(masked, sorted(set(masked), reverse=True), stage)
            self.assertEqual(masked[-1], 0, stage)
        for _, speed, _ in seen:
            self.assertRegex(speed, r"^[\d.]+ ms, median [\d.]+ ms per step$")
        self.assertGreaterEqual(page.locator("#times rect").count(), 8)
        self.screenshot(page, "wide")
        # The image is that of the command line, to the byte.
        with page.expect_download() as download:
            page.get_by_role("link", name="Save the PNG").click()
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "own.png"
            command = [arguments.muse, "generate", PROMPT, "--seed", "5", "--steps", "6", "--device", "cpu", "-o", own]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            self.assertEqual(Path(download.value.path()).read_bytes(), own.read_bytes())

    def test_tokens_confidences_and_masks_are_seen(self):
        page = self.open()
        page.evaluate("""() => {
            shown = { grid: [1, 4], tokens: [5, 6, null, null], confidence: [-1, null, -3, null] };
            draw();
        }""")
        expect(page.locator("#tokens-said")).to_have_text("1 × 4 tokens, 2 still masked")

        def cells():
            canvas = page.locator("#tokens")
            side = canvas.evaluate("(canvas) => canvas.height")
            parts = [canvas.evaluate(PIXELS, [i * side, 0, side, side]) for i in range(4)]
            colours = [{tuple(p[i : i + 4]) for i in range(0, len(p), 4)} for p in parts]
            return [c.pop() if len(c) == 1 else "hatched" for c in colours]

        tokens = cells()
        self.assertEqual(tokens[2:], ["hatched"] * 2)
        self.assertNotEqual(tokens[0], tokens[1])
        self.mode(page, "Confidences")
        confidence = cells()
        self.assertEqual([confidence[1], confidence[3]], ["hatched"] * 2)
        self.assertGreater(sum(confidence[0][:3]), sum(confidence[2][:3]) + 100)
        self.mode(page, "Masks")
        masks = cells()
        self.assertEqual(masks[2:], ["hatched"] * 2)
        self.assertNotEqual(masks[0], masks[1])
        for column, said in enumerate(
            ["token 5, confidence -1.00", "token 6, not drawn in this step", "masked, confidence -3.00",
             "masked, not drawn in this step"], 1
        ):
            self.fill(page, column=column)
            expect(page.locator("#cell")).to_have_text(said)
        self.fill(page, column=5)
        expect(page.locator("#cell")).to_have_text("outside of the grid")
        page.locator("#tokens").hover(position={"x": 3, "y": 3})
        expect(page.locator("#cell")).to_have_text("token 5, confidence -1.00")

    def test_a_mask_is_painted_and_inpainted(self):
        page = self.open()
        before, size = self.make(page, prompt=PROMPT, seed=5)
        self.mode(page, "Inpaint")
        page.locator("#go").click()
        expect(page.get_by_role("alert")).to_have_text("Paint what is to be made anew, or add a box.")
        box = page.locator("#mask").bounding_box()
        at = lambda x, y: (box["x"] + x * box["width"] / size[0], box["y"] + y * box["height"] / size[1])
        self.fill(page, brush=5)
        page.mouse.move(*at(10, 12))
        page.mouse.down()
        page.mouse.move(*at(30, 12), steps=3)
        page.mouse.up()
        expect(page.locator("#painted")).to_contain_text("pixels are painted")
        painted = int(page.locator("#painted").text_content().split()[0])
        self.assertTrue(230 < painted < 350, painted)  # 20 × 10 pixels and a disk of radius 5
        self.screenshot(page, "inpaint")
        after, same = self.make(page, prompt="an apple above two stars at night", seed=1)
        self.assertEqual(same, size)
        row = 4 * size[0]
        self.assertNotEqual(after[: 20 * row], before[: 20 * row])
        self.assertEqual(after[32 * row :], before[32 * row :])
        expect(page.locator("#painted")).to_have_text("nothing is painted")
        # Another try begins where this one began.
        page.get_by_role("button", name="Back to the image before").click()
        self.assertEqual(self.picture(page)[0], before)
        expect(page.locator("#painted")).to_have_text(f"{painted} pixels are painted")

    def test_the_border_is_dragged_and_outpainted(self):
        page = self.open()
        before, [width, height] = self.make(page, prompt=PROMPT, seed=5)
        self.mode(page, "Outpaint")
        self.fill(page, right=0)
        handle = page.get_by_role("button", name="to add pixels at the right")
        box, scale = handle.bounding_box(), page.locator("#canvas").bounding_box()["width"] / width
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 48 * scale, y, steps=4)
        page.mouse.up()
        expect(page.locator("#right")).to_have_value("48")
        self.screenshot(page, "outpaint")
        after, size = self.make(page)
        self.assertEqual(size, [width + 48, height])
        left = lambda pixels, columns: [pixels[4 * columns * y :][: 4 * 40] for y in range(height)]
        self.assertEqual(left(after, size[0]), left(before, width))

    def test_an_image_of_a_file_is_edited_without_a_mask(self):
        page = self.open()
        self.mode(page, "Edit without a mask")
        page.locator("#go").click()
        expect(page.get_by_role("alert")).to_have_text("Choose an image, or make one first.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "own.png"
            command = [arguments.muse, "generate", PROMPT, "--seed", "5", "--steps", "3", "--device", "cpu", "-o", path]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            page.locator("#size").select_option("full")
            page.locator("#file").set_input_files(path)
            expect(page.get_by_role("img", name="The image to change")).to_be_visible()
            before = self.picture(page)
            after = self.make(page, prompt="a frog in the sea", iterations=4, seed=2)
            self.assertEqual(after[1], before[1])
            self.assertNotEqual(after[0], before[0])
            (Path(folder) / "none.png").write_text("no picture")
            page.locator("#file").set_input_files(Path(folder) / "none.png")
            expect(page.get_by_role("alert")).to_contain_text("none.png is no picture")

    def test_seeds_are_compared(self):
        page = self.open()
        self.mode(page, "Compare seeds")
        self.fill(page, prompt=PROMPT, seed=11, count=3)
        page.locator("#go").click()
        expect(page.get_by_role("button", name="seed 13")).to_be_visible()
        last, _ = self.made(page)
        choices = page.locator("#sheet").get_by_role("button")
        expect(choices).to_have_text(["seed 11", "seed 12", "seed 13"])
        self.screenshot(page, "compare")
        choices.nth(0).click()
        expect(page.locator("#seed")).to_have_value("11")
        first, _ = self.picture(page)
        self.assertNotEqual(first, last)
        self.mode(page, "Generate")
        self.assertEqual(self.make(page)[0], first)

    def long(self, page):
        """Begins an edit of a thousand rounds."""
        self.make(page, prompt=PROMPT, seed=5)
        self.mode(page, "Edit without a mask")
        self.fill(page, iterations=1000)
        page.locator("#go").click()
        expect(page.locator("#state")).to_contain_text("step")

    def test_a_job_is_stopped_and_others_wait_in_line(self):
        page = self.open()
        self.long(page)
        other = self.open()
        other.locator("#go").click()
        expect(other.locator("#state")).to_have_text("Waiting: 1 ahead.")
        self.assertEqual(self.jobs(), 2)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#state")).to_have_text("Stopped.")
        self.made(other)
        self.quiet()

    def test_a_job_ends_when_its_page_goes_away(self):
        page, other = self.open(), self.open()
        self.long(page)
        self.assertEqual(self.jobs(), 1)
        page.context.close()
        self.quiet()
        expect(other.locator("#state")).to_have_text("Ready.")

    def test_what_is_wrong_is_said(self):
        page = self.open()
        self.fill(page, prompt=" ")
        page.locator("#go").click()
        expect(page.get_by_role("alert")).to_have_text(re.compile("prompt: an empty text cannot be used"))
        expect(page.locator("#state")).to_have_text("Not done.")
        expect(page.locator("#go")).to_be_enabled()

    def test_the_keyboard_is_enough(self):
        page = self.open()
        press = page.keyboard.press
        focused = "[document.activeElement.dataset.side, document.activeElement.id, document.activeElement.value]"

        def go_to(name, key="Tab"):
            for _ in range(60):
                if name in page.evaluate(focused):
                    return
                press(key)
            self.fail(f"{key} does not lead to {name}")

        def write(name, text):
            go_to(name)
            press("Control+A")
            page.keyboard.type(text)

        write("prompt", PROMPT)
        write("seed", "5")
        press("Enter")
        _, size = self.made(page)
        # A box of the mask, without a pointer.
        go_to("generate", "Shift+Tab")
        press("ArrowRight")
        self.assertTrue(page.get_by_role("radio", name="Inpaint").is_checked())
        go_to("box")
        press("Enter")
        expect(page.locator("#painted")).to_have_text("1024 pixels are painted")
        go_to("go")
        press("Enter")
        self.assertEqual(self.made(page)[1], size)
        # The border, by its handle.
        go_to("inpaint", "Shift+Tab")
        press("ArrowRight")
        write("right", "0")
        go_to("go")  # and on to the handles, whose sides are called as the fields
        go_to("left")
        go_to("right")
        for key in ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"]:
            press(key)
        expect(page.locator("#right")).to_have_value("16")

    def test_everything_has_a_name(self):
        page = self.open()
        self.make(page, prompt=PROMPT, seed=5)
        for name in MODES:
            self.mode(page, name)
            snapshot = page.locator("body").aria_snapshot()
            roles = "button|link|textbox|spinbutton|slider|combobox|checkbox|radio|img|group|form|region|heading"
            unnamed = re.findall(rf"^\s*- (?:{roles})(?: \[[^\]]*\])*(?::.*)?$", snapshot, re.M)
            self.assertEqual(unnamed, [], f"{name}:\n{snapshot}")
            for role in ["textbox", "spinbutton", "radio", "img", "status"]:
                self.assertRegex(snapshot, rf"- {role}\b")
        self.assertEqual(page.locator("html").get_attribute("lang"), "en")
        self.assertEqual(page.locator("h1").count(), 1)
        self.assertEqual(page.locator("[tabindex]:not([tabindex='0'])").count(), 0)

    def test_it_fits_a_phone(self):
        page = self.open(PHONE, has_touch=True, is_mobile=True)
        self.make(page, prompt=PROMPT, seed=5)
        for name in MODES:
            self.mode(page, name)
            wide = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            self.assertLessEqual(wide[0], PHONE["width"], name)
            self.assertEqual(wide[1], PHONE["width"], name)
            self.screenshot(page, f"phone-{name.split()[0].lower()}")

    def test_it_is_dark_where_the_user_is(self):
        for scheme in ["light", "dark"]:
            page = self.open(color_scheme=scheme)
            self.make(page, prompt=PROMPT, seed=5)
            back = luminance(colour(page, "body", "background-color"))
            self.assertTrue(back < 0.05 if scheme == "dark" else back > 0.8, scheme)
            page.locator("#problem").evaluate("(problem) => { problem.textContent = 'prompt'; }")
            for place in ["body", "h1", ".hint", "#model", "label", "#prompt", "#go", "#dice", "#save", "#problem", "#state"]:
                fore = luminance(colour(page, place, "color"))
                own = colour(page, place, "background-color")
                under = back if own[3] == 0 else luminance(own)
                contrast = (max(fore, under) + 0.05) / (min(fore, under) + 0.05)
                self.assertGreaterEqual(contrast, 4.5, f"{place} of {scheme}")  # WCAG 2.2, 1.4.3
            self.screenshot(page, scheme)


def colour(page, place, name):
    text = page.locator(place).first.evaluate(f"(element) => getComputedStyle(element)['{name}']")
    numbers = [float(n) for n in re.findall(r"[\d.]+", text)]
    return numbers if len(numbers) == 4 else [*numbers, 1]


def luminance(rgb):
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (c / 255 for c in rgb[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--muse", required=True, type=lambda p: str(Path(p).resolve()))
    parser.add_argument("--chromium", required=True)
    parser.add_argument("--screenshots")
    arguments, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
