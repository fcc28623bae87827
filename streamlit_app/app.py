"""The app's frame: `streamlit run streamlit_app/app.py -- --runs runs`. One line here adds a page."""

import screen
import streamlit as st

st.set_page_config(page_title="tfcompact", page_icon=":material/compress:", layout="wide")
page = st.navigation(
    [
        st.Page("app_pages/classify.py", title="Classify", icon=":material/photo_camera:", default=True),
        st.Page("app_pages/compare.py", title="Compare", icon=":material/scatter_plot:"),
    ],
    position="top",
)
screen.style()
page.run()
