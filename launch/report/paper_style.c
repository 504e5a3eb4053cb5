#include "launch/report/paper_page.h"

/* clang-format off */
const char paper_style[] =
    ":root{--good:#0b7a4b}@media (prefers-color-scheme:dark){:root{--good:#3ecf95}}@media print{:root{--good:#0b7a4b}}\n"
    "section{margin-top:2.6rem}section h2{margin-top:0;scroll-margin-top:1rem}"
    "h2 small{font-weight:400;font-size:1rem;color:var(--muted);margin-left:.5em}\n"
    ".inside{color:var(--good)}.outside{color:var(--over)}.unit i,small i{font-style:italic}\n"
    "body{max-width:1500px}table.paper{font-size:.8rem}table.paper td small{font-size:.7rem}table.paper.results td,table.paper.results th{padding:.3rem .32rem}"
    "table.paper th[scope=row]{white-space:nowrap;min-width:0;position:sticky;left:0;background:var(--page)}"
    "table.paper th[scope=row] small{font-size:.88em}table.paper tbody tr:hover th{background:var(--tint)}\n"
    "table.paper td small{white-space:nowrap}\n"
    "ul.index{list-style:none;margin:1.4rem 0;padding:0;display:grid;gap:.35rem .8rem;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));"
    "font-size:.9rem}ul.index li{white-space:nowrap}ul.index span{color:var(--muted);font-size:.85em}"
    "ul.index li::before{content:'';display:inline-block;width:.62em;height:.62em;margin-right:.5em;border:1.5px solid var(--muted);border-radius:50%}"
    "ul.index li.complete::before{background:var(--good);border-color:var(--good)}"
    "ul.index li.partly::before{background:linear-gradient(90deg,var(--good) 50%,transparent 50%);border-color:var(--good)}\n"
    "a{color:inherit;text-decoration-color:var(--muted);text-underline-offset:.15em}a:hover{text-decoration-color:currentColor}\n"
    ".missing{color:var(--muted);font-size:.9rem}.missing ul{margin:.3rem 0 .6rem;padding-left:1.4rem}.data{font-size:.85rem;color:var(--muted)}\n"
    ".caption{font-weight:600;font-size:.95rem;margin:1rem 0 0}\n"
    ".absent{display:flex;flex-direction:column;align-items:center;justify-content:center;min-height:9rem;height:100%;border:1.5px dashed var(--line);"
    "border-radius:6px;color:var(--muted);text-align:center;padding:1rem}.absent p{margin:.1rem 0}\n"
    ".swatch.dashed{width:1.5em;height:0;border-radius:0;border-top:2px dashed var(--run);background:none;vertical-align:.25em}\n"
    ".shots{display:grid;gap:1.4rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));margin:.6rem 0 1.2rem}"
    ".shot img{display:block;image-rendering:pixelated;border-radius:4px}.shot p{margin:.4rem 0 .2rem;font-size:.9rem}"
    ".shot table{font-size:.82rem}.shot td,.shot th{padding:.15rem .5rem .15rem 0}.shot tbody th{min-width:0}\n"
    "@media print{details.missing{display:block}section{break-inside:auto;margin-top:1.2rem}.data{display:none}ul.index{grid-template-columns:repeat(5,1fr)}"
    "table.paper{font-size:7.5pt}table.paper.results td,table.paper.results th{padding:.2rem .25rem}}\n";
/* clang-format on */
