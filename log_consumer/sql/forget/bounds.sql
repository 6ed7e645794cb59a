-- In the catalogue's Postgres: the least and greatest text of each column, as its files say by now. DuckLake only ever
-- widens them, and keeps a unit there whose rows are long gone.
update ducklake_table_column_stats as stats
set min_value = found.min_value, max_value = found.max_value
from (
    select
        columns.table_id,
        columns.column_id,
        min(files.min_value collate "C") as min_value,
        max(files.max_value collate "C") as max_value
    from ducklake_column as columns
    left join (
        select file_stats.*
        from ducklake_file_column_stats as file_stats
        join ducklake_data_file using (data_file_id)
        where end_snapshot is null
    ) as files using (table_id, column_id)
    where columns.column_type = 'varchar'
    group by columns.table_id, columns.column_id
) as found
where stats.table_id = found.table_id and stats.column_id = found.column_id
