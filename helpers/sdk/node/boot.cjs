// The file that the sandbox starts: hands over to the runtime. CommonJS, because the loader of ES modules costs start time.
"use strict";

require("./raas/process.cjs").main();
