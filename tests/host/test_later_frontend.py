"""The newest host under a newer frontend than its own: the map, the curve and the guard's words, in both
renderers, and the templates.
"""

from __future__ import annotations

import pytest
from frontends import LATER, static_files
from test_browser import (  # noqa: F401  # fixtures and the tests themselves
    browser,
    canvas,
    page_of_host,
    test_the_templates_list_every_workflow_and_open_it,
)
from test_renderers import (  # noqa: F401
    page,
    previews,
    renderer,
    test_a_click_and_a_key_choose_and_what_was_chosen_comes_out_and_stays,
    test_the_curve_stands_on_the_node_after_a_run_whatever_live_previews_there_were,
    test_the_heat_stays_shown_and_a_place_is_held,
    test_the_widgets_move_the_mark_and_the_map_is_not_sent_to_the_server,
    test_what_the_guard_found_is_read_on_it_after_the_run,
)


@pytest.fixture(scope="module")
def host(newest, new_host, tmp_path_factory):
    """In the place of every host: one server, of the newest, with that frontend."""
    if newest is None:
        pytest.skip("no ComfyUI here")
    folder = static_files(LATER)
    if folder is None:
        pytest.skip(f"frontend {LATER} can't be fetched here")
    with new_host(newest, tmp_path_factory.mktemp("later"), frontend=folder) as server:
        yield server


def test_it_is_that_frontend(page_of_host):  # noqa: F811
    assert page_of_host.page.evaluate("window.__COMFYUI_FRONTEND_VERSION__") == LATER
