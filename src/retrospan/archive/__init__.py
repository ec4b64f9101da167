"""The Parquet archive: a record's rows for years, in files that every engine reads (extra `retrospan[parquet]`).

    from retrospan.archive.export import export
    export(Path("telemetry.sqlite"), place_of("archive"))

    archive/table=http_events/date=2026-11-27/RUN.PROCESS.RECORD.FIRST-LAST.parquet     rows, never changed again
    archive/table=run_info/date=2026-11-27/RECORD.parquet                               side tables, replaced whole
    archive/_retrospan/RECORD.json                                                      how far each record is archived

`places` is where it lies (a folder, an object store), `schema` what the files hold, `watermark` how far it has got.
"""
