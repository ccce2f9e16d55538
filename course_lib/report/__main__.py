"""``python -m course_lib.report``"""

import sys

from course_lib.report.pages import main

sys.exit(main())
