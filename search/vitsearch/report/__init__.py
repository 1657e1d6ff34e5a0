"""The report of a study: one page that needs no network, the same page live, and the front as a picture.

data.py         what the page shows, as one frozen value with a JSON form; read from a study and its ledger
    trials.py       every trial with its figures now and what was chosen for it
    progress.py     hypervolume over what it cost               reuse.py       results that several trials share
    timeline.py     what workers and devices did, and when      conditions.py  how it was measured
page.py         the page: the template and plotly with the data in it
template/       HTML, CSS and JavaScript; figures are drawn from the data in the browser
picture.py      the front as SVG or PNG, for slides             shapes.py      lines, dots and text as SVG and as PNG
serve.py        the page over HTTP while the study runs         live.py        when a study has something new
dashboard.py    optuna-dashboard on the database of a study
"""
