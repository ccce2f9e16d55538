"""``python -m course_lib.report``"""

import sys

from course_lib.files import speak_utf8
from course_lib.report.pages import main

speak_utf8()
sys.exit(main())
