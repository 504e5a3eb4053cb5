/* The look of a report. */
#ifndef PLUMB_LAUNCH_REPORT_REPORT_STYLE_H
#define PLUMB_LAUNCH_REPORT_REPORT_STYLE_H

extern const char report_style[]; /* CSS; defines the colours that figures use (launch/gnuplot.h) */

#endif
