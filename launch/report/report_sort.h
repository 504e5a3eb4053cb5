/* Tables that sort by a click on the head of a column. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_SORT_H
#define PLUMB_LAUNCH_REPORT_REPORT_SORT_H

/* Tables with more rows than this sort. */
enum { REPORT_SORTED_ROWS = 20 };

/* A script for the end of the page, without "<" and "&". A page is whole without it: it reads nothing but the page, and
 * where no scripts run the tables stay in the order of the runs. */
extern const char report_sort_script[];

#endif
