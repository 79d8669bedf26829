// Errors are written on the root element, where a test or a person can see them.

window.onerror = (message) => { document.documentElement.dataset.error = String(message); };
window.onunhandledrejection = (event) => { document.documentElement.dataset.error = String(event.reason); };
