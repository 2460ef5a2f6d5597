"""All dashboards, by the name of their file."""

from helm.dashboards.fleet import FLEET
from helm.dashboards.layout import Board
from helm.dashboards.overview import OVERVIEW
from helm.dashboards.pipeline import PIPELINE
from helm.dashboards.speculation import SPECULATION

BOARDS: dict[str, Board] = {board.uid: board for board in (OVERVIEW, SPECULATION, PIPELINE, FLEET)}
