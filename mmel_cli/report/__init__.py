"""The report: index.html with its data in chunks beside it, which opens from file://.

A page that is opened from a folder may load neither modules nor JSON, so the data come as classic scripts, each of
which calls one function of the global `mmel` once. Below, k counts files from 0, r counts runs, and a record is known
by its number in the report.

    report/data/head.js             mmel.head(HEAD)
    report/data/records-k.js        mmel.records(k, COLUMNS, BUILD)       RECORDS records a file; loaded at the start
    report/data/maps-r-k.js         mmel.maps(r, k, MAPS, BUILD)          MAPS records a file; loaded when needed
    report/data/details-r-k.js      mmel.details(r, k, DETAILS, BUILD)    DETAILS records a file; the same
    report/data/eval.js             mmel.evaluation(EVALUATION, BUILD)    only if an evaluation belongs to the report

BUILD is HEAD.build, other digits each time that a report is made: the page takes no file of another build. index.html
and head.js are removed before the first file of data is written, and are the last to be written: a report that was
broken off is not there.

In one file (`--self-contained`) all these calls stand in the page itself, and the columns `photo` and `thumb` hold
data: URIs in the place of relative URLs. HEAD.self_contained says so.

Arrays are base64 of little-endian float32. Numbers are the shortest that give the archive's float32 again, with
Math.fround. Where words and phrases stand in a caption is counted in UTF-16 units, as String.slice does. What is
undefined is null.
"""
