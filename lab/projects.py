"""The one place that says where the projects' modules are found by what spans several of them: import it, and they are.

A project's own scripts need none of this: Python looks beside the script first.
"""

import sys

from lab.files import ROOT

FOLDERS = ("01_q_learning_maze", "02_transformer_basics", "03_ppo_reacher")

for folder in FOLDERS:
    if str(ROOT / folder) not in sys.path:
        sys.path.append(str(ROOT / folder))
