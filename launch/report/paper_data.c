#include "launch/report/paper_data.h"

#include "engine/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

Status paper_data_open(PaperData *data, const char *id, const char *title, const char *const column[],
                       int columns)
{
    *data = (PaperData){.column = column, .columns = columns};
    data->stream = open_memstream(&data->csv, &data->csv_size);
    data->root = cJSON_CreateObject();
    cJSON *names = cJSON_CreateStringArray(column, columns);
    if (data->stream == NULL || cJSON_AddStringToObject(data->root, "id", id) == NULL ||
        cJSON_AddStringToObject(data->root, "title", title) == NULL ||
        !cJSON_AddItemToObject(data->root, "columns", names)) {
        paper_data_free(data);
        return fail(STATUS_MEMORY, "no memory for the data of %s", id);
    }
    data->list = cJSON_AddArrayToObject(data->root, "rows");
    for (int i = 0; i < columns; ++i)
        (void)fprintf(data->stream, "%s%s", i > 0 ? "," : "", column[i]);
    (void)fputs("\r\n", data->stream);
    return OK;
}

/* The cell is written to the CSV already. */
static void end_cell(PaperData *data, cJSON *item)
{
    if (data->at == 0) data->row = cJSON_CreateObject();
    if (!cJSON_AddItemToObjectCS(data->row, data->column[data->at], item)) cJSON_Delete(item);
    ++data->at;
    (void)fputs(data->at < data->columns ? "," : "\r\n", data->stream);
    if (data->at < data->columns) return;
    if (!cJSON_AddItemToArray(data->list, data->row)) cJSON_Delete(data->row);
    data->row = NULL;
    data->at = 0;
    ++data->rows;
}

void paper_data_text(PaperData *data, const char *text)
{
    const char *value = text != NULL ? text : "";
    const int quoted = strpbrk(value, ",\"\r\n") != NULL;
    if (quoted) (void)fputc('"', data->stream);
    for (const char *at = value; *at != '\0'; ++at) {
        if (*at == '"') (void)fputc('"', data->stream);
        (void)fputc(*at, data->stream);
    }
    if (quoted) (void)fputc('"', data->stream);
    end_cell(data, text != NULL ? cJSON_CreateString(text) : cJSON_CreateNull());
}

void paper_data_number(PaperData *data, double number)
{
    if (isfinite(number)) (void)fprintf(data->stream, "%.10g", number);
    end_cell(data, isfinite(number) ? cJSON_CreateNumber(number) : cJSON_CreateNull());
}

/* A lack of memory anywhere shows in a number of rows that is not the one counted. */
Status paper_data_close(PaperData *data, char **json)
{
    const int whole = ferror(data->stream) == 0, closed = fclose(data->stream) == 0;
    data->stream = NULL;
    *json = NULL;
    if (!whole || !closed || cJSON_GetArraySize(data->list) != data->rows)
        return fail(STATUS_MEMORY, "no memory for the data of a figure");
    char *text = cJSON_Print(data->root);
    if (text == NULL) return fail(STATUS_MEMORY, "no memory for the data of a figure");
    Status status = text_copy(text, json);
    cJSON_free(text);
    return status;
}

void paper_data_free(PaperData *data)
{
    if (data->stream != NULL) (void)fclose(data->stream);
    cJSON_Delete(data->row);
    cJSON_Delete(data->root);
    free(data->csv);
    *data = (PaperData){.column = NULL};
}
