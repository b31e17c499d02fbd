-- The image a version runs from: the name of its folder below `images/`.
--
-- Why it is stored: an image depends on the interpreter that compiled and installed for it, and which one that was cannot be
-- told later from the version's digest. Versions of before this change have '' and the name made of code digest and runtime.
ALTER TABLE versions ADD COLUMN image TEXT NOT NULL DEFAULT '';
