"""Pays on the sandbox's payment page as a browser without scripts does.

    pay_page.py PAGE_URL UPI_ID

Fetches the page, sends its UPI form with all hidden fields by its first button, and follows redirects with
cookies as long as they stay on this machine. Prints a line `STATUS URL` for each answer; the last redirect's
target, which is left alone, follows as `-> URL`.
"""

import http.cookiejar
import sys
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser


class Forms(HTMLParser):
    """The forms of a page: action, fields and buttons."""

    def __init__(self):
        super().__init__()
        self.forms = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "form":
            self.forms.append({"action": attrs.get("action", ""), "fields": {}, "buttons": []})
        elif tag == "input" and self.forms and attrs.get("name"):
            self.forms[-1]["fields"][attrs["name"]] = attrs.get("value", "")
        elif tag == "button" and self.forms:
            self.forms[-1]["buttons"].append((attrs.get("name"), attrs.get("value", "")))


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def main():
    page_url, upi_id = sys.argv[1:]
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        NoRedirect(),
    )
    parser = Forms()
    parser.feed(get(browser, page_url)[1])
    form = next(form for form in parser.forms if form["fields"].get("method") == "upi")
    fields = form["fields"] | {"vpa": upi_id}
    name, value = form["buttons"][0]
    if name:
        fields[name] = value
    url, data = urllib.parse.urljoin(page_url, form["action"]), urllib.parse.urlencode(fields).encode()
    while True:
        location, _ = get(browser, url, data)
        if location is None:
            return
        url, data = urllib.parse.urljoin(url, location), None
        if urllib.parse.urlsplit(url).hostname != "127.0.0.1":
            print(f"-> {url}")
            return


def get(browser, url, data=None):
    """Where the answer redirects to, if it does, and its text."""
    try:
        answer = browser.open(url, data, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        print(answer.status, url)
        return answer.headers.get("Location"), answer.read().decode()


main()
